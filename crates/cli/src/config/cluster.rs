//! Keys about the other nodes and the config store that they share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dyad_node::settings::StoreChoice;
use dyad_store::Tls;
use dyad_store::etcd::EtcdTls;

use super::keys::{Key, PATH, TEXT, quoted, word};
use super::{Config, read_secret, read_text};

/// Largest file with certificates.
const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;

/// Which kind of config store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum StoreKind {
    #[default]
    Local,
    Arbiter,
    Etcd,
}

const KINDS: [(&str, StoreKind); 3] =
    [("local", StoreKind::Local), ("arbiter", StoreKind::Arbiter), ("etcd", StoreKind::Etcd)];
const TLS: [(&str, bool); 2] = [("off", true), ("required", false)];

/// The keys of `[store]` until all are known.
#[derive(Clone, Debug, Default)]
pub(super) struct StoreKeys {
    kind: StoreKind,
    addresses: Vec<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    name: Option<String>,
    prefix: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

/// The files of `[peer]` until all are known.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerKeys {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn list(texts: &[String]) -> Option<String> {
    let texts: Vec<_> = texts.iter().filter_map(quoted).collect();
    (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
}

/// A key of `[store]` or `[peer]` that is a path or a text and may be missing.
macro_rules! optional {
    ($path:expr, $takes:expr, $section:ident.$field:ident, $read:ident, $show:expr, $doc:expr) => {
        Key {
            path: $path,
            takes: $takes,
            doc: $doc,
            get: |config| config.$section.$field.as_ref().and_then($show),
            set: |config, value| {
                config.$section.$field = Some(value.$read()?);
                Ok(())
            },
        }
    };
}

pub(super) const KEYS: &[Key] = &[
    Key {
        path: "peer.listen",
        takes: "address with port",
        doc: "Where the other nodes of the cluster come in. Not set: this node is alone. Needs a config store that nodes \
              share (`store.kind`).",
        get: |config| config.settings.peer.listen.and_then(quoted),
        set: |config, value| {
            let text = value.text()?;
            let address =
                text.parse().map_err(|_| format!("wants an address such as \"192.0.2.1:3261\", not `{text}`"))?;
            config.settings.peer.listen = Some(address);
            Ok(())
        },
    },
    Key {
        path: "peer.addresses",
        takes: "list of texts, `address:port`",
        doc: "Where the other nodes reach this one, in the order in which they try; at most 8. Not set: where it listens.",
        get: |config| list(&config.settings.peer.addresses),
        set: |config, value| {
            config.settings.peer.addresses = value.texts()?;
            Ok(())
        },
    },
    Key {
        path: "peer.tls",
        takes: "`\"required\"` or `\"off\"`",
        doc: "With `required`, connections between nodes are encrypted (TLS 1.3, certificates on both sides); without \
              certificates they stay on this machine. `off` is your word that the nodes have a network of their own on which \
              nobody listens: nothing is encrypted there. Alike on all nodes.",
        get: |config| word(&TLS, &config.settings.peer.allow_plain),
        set: |config, value| {
            config.settings.peer.allow_plain = value.word(&TLS)?;
            Ok(())
        },
    },
    optional!(
        "peer.ca",
        PATH,
        peer.ca,
        path,
        |path| quoted(path.display()),
        "File with the certificate of the cluster's authority, PEM, which `dyad cluster init` makes. Not set: that of an \
         arbiter (`store.ca`), and so for the next two."
    ),
    optional!(
        "peer.certificate",
        PATH,
        peer.certificate,
        path,
        |path| quoted(path.display()),
        "File with this node's certificate, PEM. It has `node_name` as subject alternative name (DNS), and is good for \
         both sides of TLS."
    ),
    optional!(
        "peer.key",
        PATH,
        peer.key,
        path,
        |path| quoted(path.display()),
        "File with the private key of that certificate, PEM; not readable by everybody."
    ),
    Key {
        path: "peer.ca_key",
        takes: PATH,
        doc: "File with the private key of the cluster's authority, PEM, on the node that may let others in (`dyad node \
              token`). The nodes do without it; keep a copy elsewhere.",
        get: |config| config.settings.peer.authority_key.as_ref().and_then(|path| quoted(path.display())),
        set: |config, value| {
            config.settings.peer.authority_key = Some(value.path()?);
            Ok(())
        },
    },
    Key {
        path: "store.kind",
        takes: "`\"local\"`, `\"arbiter\"` or `\"etcd\"`",
        doc: "Where the cluster's records are kept: in a file of this node, which is alone then; at an arbiter, the \
              tie-breaker of two nodes; in etcd, three or more members.",
        get: |config| word(&KINDS, &config.store.kind),
        set: |config, value| {
            config.store.kind = value.word(&KINDS)?;
            Ok(())
        },
    },
    Key {
        path: "store.addresses",
        takes: "list of texts",
        doc: "Of the arbiter, `address:port`; of etcd's members, URLs such as `https://etcd-1:2379`.",
        get: |config| list(&config.store.addresses),
        set: |config, value| {
            config.store.addresses = value.texts()?;
            Ok(())
        },
    },
    optional!(
        "store.ca",
        PATH,
        store.ca,
        path,
        |path| quoted(path.display()),
        "File with the certificate of the authority that the store's certificate is of, PEM. Without TLS the store must be \
         on this machine."
    ),
    optional!(
        "store.certificate",
        PATH,
        store.certificate,
        path,
        |path| quoted(path.display()),
        "File with this node's certificate, PEM."
    ),
    optional!(
        "store.key",
        PATH,
        store.key,
        path,
        |path| quoted(path.display()),
        "File with the private key of that certificate, PEM; not readable by everybody."
    ),
    optional!(
        "store.name",
        TEXT,
        store.name,
        text,
        quoted,
        "Name that the store's certificate has, where it is not its address."
    ),
    optional!("store.prefix", TEXT, store.prefix, text, quoted, "What all keys in etcd start with. Not set: `/dyad`."),
    optional!(
        "store.user",
        TEXT,
        store.user,
        text,
        quoted,
        "Name of a user of etcd who may read and write below the prefix."
    ),
    optional!(
        "store.password_file",
        PATH,
        store.password_file,
        path,
        |path| quoted(path.display()),
        "File with that user's password, which nobody but its owner and group can read."
    ),
];

/// The store that the keys describe.
pub(super) fn store(config: &Config) -> Result<StoreChoice, (&'static str, String)> {
    let keys = &config.store;
    let wants_addresses = || ("store.addresses", "name at least one address".to_owned());
    match keys.kind {
        StoreKind::Local => Ok(StoreChoice::Local),
        _ if keys.addresses.is_empty() => Err(wants_addresses()),
        StoreKind::Arbiter => {
            let address = |text: &String| {
                let wrong = || ("store.addresses", format!("wants addresses such as \"192.0.2.3:3262\", not `{text}`"));
                text.parse::<SocketAddr>().map_err(|_| wrong())
            };
            let addresses = keys.addresses.iter().map(address).collect::<Result<Vec<_>, _>>()?;
            let tls = match (&keys.ca, &keys.certificate, &keys.key) {
                (None, None, None) => None,
                (Some(ca), Some(certificate), Some(key)) => {
                    let (authority, certificate) = (pem(ca)?, pem(certificate)?);
                    let tls = Tls { authority, certificate, key: private(key)? };
                    let name = keys.name.clone().unwrap_or_else(|| addresses[0].ip().to_string());
                    Some((tls, name))
                }
                _ => return Err(("store.ca", "wants `ca`, `certificate` and `key` together".to_owned())),
            };
            Ok(StoreChoice::Arbiter { addresses, tls })
        }
        StoreKind::Etcd => {
            let identity = match (&keys.certificate, &keys.key) {
                (None, None) => None,
                (Some(certificate), Some(key)) => Some((pem(certificate)?, private(key)?)),
                _ => return Err(("store.certificate", "wants `certificate` and `key` together".to_owned())),
            };
            let tls = keys.ca.as_ref().map(|ca| {
                let authority = pem(ca)?;
                Ok::<_, (&'static str, String)>(EtcdTls { authority, identity, name: keys.name.clone() })
            });
            let user = match (&keys.user, &keys.password_file) {
                (None, None) => None,
                (Some(user), Some(file)) => {
                    let password = read_secret(file).map_err(|wrong| ("store.password_file", wrong))?;
                    Some((user.clone(), password))
                }
                _ => return Err(("store.user", "wants `user` and `password_file` together".to_owned())),
            };
            Ok(StoreChoice::Etcd {
                endpoints: keys.addresses.clone(),
                prefix: keys.prefix.clone().unwrap_or_else(|| "/dyad".to_owned()),
                tls: tls.transpose()?,
                user,
                allow_plain: config.settings.peer.allow_plain,
            })
        }
    }
}

/// The certificates with which the nodes meet: their own, else those for the arbiter, which are of the same authority.
pub(super) fn peer_tls(config: &Config, store: &StoreChoice) -> Result<Option<Tls>, (&'static str, String)> {
    let keys = &config.peer;
    match (&keys.ca, &keys.certificate, &keys.key) {
        (None, None, None) => match store {
            StoreChoice::Arbiter { tls: Some((tls, _)), .. } => Ok(Some(tls.clone())),
            _ => Ok(None),
        },
        (Some(ca), Some(certificate), Some(key)) => {
            let of = |path: &Path, key| pem(path).map_err(|(_, wrong)| (key, wrong));
            let (authority, certificate) = (of(ca, "peer.ca")?, of(certificate, "peer.certificate")?);
            let key = private(key).map_err(|(_, wrong)| ("peer.key", wrong))?;
            Ok(Some(Tls { authority, certificate, key }))
        }
        _ => Err(("peer.ca", "wants `ca`, `certificate` and `key` together".to_owned())),
    }
}

/// A private key, which nobody but its owner and group can read.
fn private(path: &Path) -> Result<Vec<u8>, (&'static str, String)> {
    read_text(path, CERTIFICATES_BYTES_MAX, true).map(String::into_bytes).map_err(|wrong| ("store.key", wrong))
}

fn pem(path: &Path) -> Result<Vec<u8>, (&'static str, String)> {
    read_text(path, CERTIFICATES_BYTES_MAX, false).map(String::into_bytes).map_err(|wrong| ("store.ca", wrong))
}
