//! The configuration file of `dyad serve`: TOML, every key known here, everything else refused with its line.
//!
//! One table ([`keys::all`]) says what a key is called, what it takes, what it means and where it goes. The parser,
//! the reference in `docs/configuration.md` and the example in `packaging/dyad.toml` are made from it.

mod cluster;
mod error;
mod keys;
mod reference;
mod value;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dyad_api::TokenHash;
use dyad_node::Settings;
use dyad_node::settings::Chap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use error::{ConfigError, ConfigErrors};
pub use reference::{example, reference};

use value::Value;

/// Where the administration socket is unless told otherwise; systemd makes the directory.
pub const SOCKET_DEFAULT: &str = "/run/dyad/dyad.sock";
/// Largest configuration file: a hundred times what all keys together take.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Largest file with a secret.
const SECRET_FILE_BYTES_MAX: u64 = 1024;
/// Errors shown at a time.
const ERRORS_MAX: usize = 20;

/// All that `dyad serve` is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the node is told.
    pub settings: Settings,
    /// Where administrators come in.
    pub api: ApiConfig,
    /// What is logged.
    pub log: LogConfig,
    discovery: DiscoveryChap,
    store: cluster::StoreKeys,
    peer: cluster::PeerKeys,
}

/// Where administrators come in.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The Unix socket.
    pub socket: PathBuf,
    /// Its file mode.
    pub socket_mode: u32,
    /// TCP, besides the socket.
    pub listen: Option<SocketAddr>,
    /// Hash of the token that TCP wants.
    pub token: Option<TokenHash>,
}

/// What is logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

/// The parts of the discovery CHAP until both are known.
#[derive(Clone, Debug, Default)]
struct DiscoveryChap {
    user: Option<String>,
    secret_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            api: ApiConfig { socket: SOCKET_DEFAULT.into(), socket_mode: 0o660, listen: None, token: None },
            log: LogConfig { level: tracing::Level::INFO, format: LogFormat::Text },
            discovery: DiscoveryChap::default(),
            store: cluster::StoreKeys::default(),
            peer: cluster::PeerKeys::default(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let cannot = |what| ConfigErrors { path: path.to_owned(), errors: vec![ConfigError::without_place(what)] };
        let text = read_bounded(path, FILE_BYTES_MAX).map_err(cannot)?;
        Self::parse(&text).map_err(|errors| ConfigErrors { path: path.to_owned(), errors })
    }

    /// Checks a text; all errors at once, in the order of lines.
    pub fn parse(text: &str) -> Result<Self, Vec<ConfigError>> {
        let (table, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(syntax.iter().take(ERRORS_MAX).map(|error| ConfigError::syntax(text, error)).collect());
        }
        let mut reader = Reader { text, config: Self::default(), places: BTreeMap::new(), errors: Vec::new() };
        reader.table("", table.get_ref());
        reader.finish()
    }
}

/// Walks the file and collects what is wrong with it.
struct Reader<'a> {
    text: &'a str,
    config: Config,
    /// Where each key was found, for errors that are found later.
    places: BTreeMap<&'static str, usize>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// `prefix` is empty or ends with a dot. The parser bounds how deep tables nest.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            let place = key.span().start;
            let section = format!("{path}.");
            let is_section = keys::all().any(|known| known.path.starts_with(&section));
            match (keys::all().find(|known| known.path == path), value.get_ref()) {
                (Some(known), _) => self.key(known, place, value),
                (None, DeValue::Table(inner)) if is_section => self.table(&section, inner),
                (None, _) if is_section => {
                    let what = format!("`{path}` is a section: write `[{path}]` and its keys below");
                    self.errors.push(ConfigError::at(self.text, place, what));
                }
                (None, DeValue::Table(_)) => self.errors.push(ConfigError::unknown_section(self.text, place, &path)),
                (None, _) => self.errors.push(ConfigError::unknown_key(self.text, place, &path)),
            }
        }
    }

    fn key(&mut self, known: &keys::Key, place: usize, value: &Spanned<DeValue<'_>>) {
        self.places.insert(known.path, place);
        if let Err(wrong) = (known.set)(&mut self.config, &Value(value.get_ref())) {
            let what = format!("`{}` {wrong}", known.path);
            self.errors.push(ConfigError::at(self.text, value.span().start, what));
        }
    }

    /// What only the whole can tell.
    fn finish(mut self) -> Result<Config, Vec<ConfigError>> {
        if self.errors.is_empty() {
            self.discovery_chap();
            let found = cluster::store(&self.config)
                .and_then(|store| cluster::peer_tls(&self.config, &store).map(|tls| (store, tls)));
            match found {
                Ok((store, tls)) => (self.config.settings.store, self.config.settings.peer.tls) = (store, tls),
                Err((key, wrong)) => self.blame(key, format!("`{key}` {wrong}")),
            }
            if let Err(bad) = self.config.settings.check() {
                self.blame(bad.key, format!("`{}`: {}", bad.key, bad.problem));
            }
            let api = &self.config.api;
            if api.listen.is_some_and(|address| !address.ip().is_loopback()) && api.token.is_none() {
                let what = "`api.listen` is reachable from other machines, so `api.token_sha256` must be set as well \
                            (`dyad token` makes one), or use a loopback address";
                self.blame("api.listen", what.into());
            }
        }
        if self.errors.is_empty() {
            return Ok(self.config);
        }
        self.errors.sort_by_key(|error| error.line);
        self.errors.truncate(ERRORS_MAX);
        Err(self.errors)
    }

    fn discovery_chap(&mut self) {
        let found = match (self.config.discovery.user.take(), self.config.discovery.secret_file.take()) {
            (None, None) => return,
            (Some(user), Some(file)) => read_secret(&file).map(|secret| Chap { user, secret }),
            _ => Err("wants both `user` and `secret_file`".into()),
        };
        match found {
            Ok(chap) => self.config.settings.iscsi.discovery_chap = Some(chap),
            Err(wrong) => {
                let key = if self.places.contains_key(keys::DISCOVERY_SECRET_FILE) {
                    keys::DISCOVERY_SECRET_FILE
                } else {
                    keys::DISCOVERY_USER
                };
                self.blame(key, format!("`iscsi.discovery_chap` {wrong}"));
            }
        }
    }

    /// An error at the place of a key, or at none if the key is not in the file.
    fn blame(&mut self, key: &str, what: String) {
        let error = match self.places.get(key) {
            Some(&place) => ConfigError::at(self.text, place, what),
            None => ConfigError::without_place(what),
        };
        self.errors.push(error);
    }
}

/// Reads a secret that stands alone in a file which nobody but its owner and group can read.
pub fn read_secret(path: &Path) -> Result<String, String> {
    let text = read_text(path, SECRET_FILE_BYTES_MAX, true)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads a text of bounded size; one that is secret from a file which only its owner and group can read.
pub fn read_text(path: &Path, most: u64, is_secret: bool) -> Result<String, String> {
    let told = |what: String| format!("{} {what}", path.display());
    if is_secret {
        let found = fs::metadata(path).map_err(|error| told(format!("cannot be read: {error}")))?;
        if found.mode() & 0o007 != 0 {
            return Err(told(format!("can be read by everybody; `chmod o= {}` first", path.display())));
        }
    }
    read_bounded(path, most).map_err(told)
}

/// Reads a text of bounded size. Errors are half sentences that follow the file's name.
fn read_bounded(path: &Path, most: u64) -> Result<String, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > most {
        return Err(format!("has more than {most} bytes; is it the right file?"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
