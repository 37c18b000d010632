//! All keys: one row each with everything that is known about it.

use dyad_node::settings::BackendChoice;
use dyad_units::Period;

use super::value::Value;
use super::{Config, LogFormat};

/// A key of the configuration file.
pub(super) struct Key {
    /// Section and name.
    pub path: &'static str,
    /// What it takes, for the reference.
    pub takes: &'static str,
    /// What it means: sentences.
    pub doc: &'static str,
    /// Its value as it would stand in the file; `None` if it is not set.
    pub get: fn(&Config) -> Option<String>,
    /// Takes a value from the file.
    pub set: fn(&mut Config, &Value<'_>) -> Result<(), String>,
}

pub(super) const DISCOVERY_USER: &str = "iscsi.discovery_chap.user";
pub(super) const DISCOVERY_SECRET_FILE: &str = "iscsi.discovery_chap.secret_file";

const SIZE: &str = "size: a number of bytes, or a text with KiB, MiB, GiB or TiB";
const TIME: &str = "time: a text with ms, s, min or h";
const NUMBER: &str = "whole number";
pub(super) const PATH: &str = "absolute path";
pub(super) const TEXT: &str = "text";

const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const BACKENDS: [(&str, BackendChoice); 3] =
    [("auto", BackendChoice::Auto), ("io-uring", BackendChoice::IoUring), ("threads", BackendChoice::Threads)];

pub(super) fn quoted(value: impl ToString) -> Option<String> {
    Some(toml::Value::String(value.to_string()).to_string())
}

fn plain(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn time(period: Period) -> Option<String> {
    quoted(period)
}

pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Option<String> {
    words.iter().find(|(_, known)| known == value).and_then(|(word, _)| quoted(word))
}

/// A key whose value goes to one field: what it takes, the field, how it is shown, how it is read.
macro_rules! key {
    ($path:expr, $takes:expr, $($field:ident).+, $show:expr, $read:ident, $doc:expr) => {
        Key {
            path: $path,
            takes: $takes,
            doc: $doc,
            get: |config| $show(config.$($field).+.clone()),
            set: |config, value| {
                config.$($field).+ = value.$read()?.into();
                Ok(())
            },
        }
    };
}

/// All keys, in the order of the reference.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(super::cluster::KEYS)
}

/// In the order of the reference; the keys without section come first, as TOML wants it.
const KEYS: &[Key] = &[
    key!(
        "node_name",
        TEXT,
        settings.node_name,
        quoted,
        text,
        "Name shown to people: 1 to 64 letters, digits, `.`, `_` or `-`. The identity of the node is an id of its own, \
         kept in `data_dir`."
    ),
    key!(
        "site",
        TEXT,
        settings.site,
        quoted,
        text,
        "Site, the failure domain that the node is in: a room, a building. Same characters as `node_name`."
    ),
    Key {
        path: "data_dir",
        takes: PATH,
        doc: "Directory of the config store: the records of volumes and the paths of pools. Created with mode 0700 if \
              missing. Back it up; it is small.",
        get: |config| quoted(config.settings.data_dir.display()),
        set: |config, value| {
            config.settings.data_dir = value.path()?;
            Ok(())
        },
    },
    Key {
        path: "shm_dir",
        takes: PATH,
        doc: "Directory in memory (tmpfs) for the logs of recent operations, which outlive the process but not the \
              machine. Not set: `/dev/shm`, or `$XDG_RUNTIME_DIR`, whichever is a tmpfs.",
        get: |config| config.settings.shm_dir.as_ref().and_then(|dir| quoted(dir.display())),
        set: |config, value| {
            config.settings.shm_dir = Some(value.path()?);
            Ok(())
        },
    },
    key!(
        "recent_log",
        SIZE,
        settings.recent_log,
        quoted,
        size,
        "Memory for one pool's log of recent operations: 1 MiB to 1 GiB."
    ),
    key!(
        "buffers",
        SIZE,
        settings.buffers,
        quoted,
        size,
        "Memory for data on its way between hosts and disks: 64 MiB to 1 TiB. Over it, hosts are made to wait."
    ),
    key!(
        "resyncs_at_once",
        NUMBER,
        settings.resyncs_at_once,
        plain,
        count,
        "Images that come back to volumes of this node at a time, and beside them as many new images that are filled: 1 to 64. \
         The others wait for their turn: volumes with the fewest images in sync come first, then those that somebody asked \
         for. More at a time only share the same disks."
    ),
    key!(
        "stop_timeout",
        TIME,
        settings.stop_timeout,
        time,
        period,
        "How long a graceful stop may take before what is left is cut off. Nothing that was acknowledged is lost by \
         cutting off. Keep `TimeoutStopSec` of the systemd unit above it."
    ),
    Key {
        path: "iscsi.portals",
        takes: "list of addresses with port; without port, 3260",
        doc: "Where iSCSI is accepted. `[::]` takes IPv4 as well. 1 to 64 addresses.",
        get: |config| {
            let portals = config.settings.iscsi.portals.iter().filter_map(quoted).collect::<Vec<_>>();
            Some(format!("[{}]", portals.join(", ")))
        },
        set: |config, value| {
            config.settings.iscsi.portals = value.portals()?;
            Ok(())
        },
    },
    key!(
        "iscsi.target_prefix",
        TEXT,
        settings.iscsi.target_prefix,
        quoted,
        text,
        "First part of every target name: `iqn.`, a year and month in which you owned a domain, the domain reversed \
         (RFC 7143 section 4.2.7.3). A colon and the volume's name follow. Hosts know volumes by their target names, so \
         do not change it later."
    ),
    Key {
        path: "iscsi.alias",
        takes: TEXT,
        doc: "Alias shown to hosts beside the target name.",
        get: |config| config.settings.iscsi.alias.as_ref().and_then(quoted),
        set: |config, value| {
            config.settings.iscsi.alias = Some(value.text()?);
            Ok(())
        },
    },
    key!(
        "iscsi.connections_max",
        NUMBER,
        settings.iscsi.connections_max,
        plain,
        count,
        "Most TCP connections in all. Over it new ones are closed at once."
    ),
    key!(
        "iscsi.half_open_max",
        NUMBER,
        settings.iscsi.half_open_max,
        plain,
        count,
        "Most connections that have not logged in yet. Over it the oldest is closed."
    ),
    key!(
        "iscsi.login_timeout",
        TIME,
        settings.iscsi.login_timeout,
        time,
        period,
        "Time from connecting to the end of login."
    ),
    key!(
        "iscsi.nop_interval",
        TIME,
        settings.iscsi.nop_interval,
        time,
        period,
        "Silence after which a host is asked whether it is still there."
    ),
    key!(
        "iscsi.nop_timeout",
        TIME,
        settings.iscsi.nop_timeout,
        time,
        period,
        "Time to answer that question, and time without progress of a host that does not read. Then it is \
         disconnected."
    ),
    key!(
        "iscsi.queue_depth",
        NUMBER,
        settings.iscsi.queue_depth,
        plain,
        count,
        "Commands in flight per session: 1 to 1024."
    ),
    key!(
        "iscsi.receive_segment_max",
        SIZE,
        settings.iscsi.receive_segment_max,
        quoted,
        size,
        "Largest data segment accepted (MaxRecvDataSegmentLength): 4 KiB to 1 MiB."
    ),
    key!(
        "iscsi.burst_max",
        SIZE,
        settings.iscsi.burst_max,
        quoted,
        size,
        "Largest solicited burst (MaxBurstLength): 4 KiB to 16777215 bytes."
    ),
    key!(
        "iscsi.first_burst_max",
        SIZE,
        settings.iscsi.first_burst_max,
        quoted,
        size,
        "Largest unsolicited burst (FirstBurstLength): 512 bytes to `iscsi.burst_max`."
    ),
    Key {
        path: DISCOVERY_USER,
        takes: TEXT,
        doc: "CHAP name that a host must prove to be shown the list of targets. Not set: every host sees the targets \
              that it may use. Logging in to a target is another matter: see `dyad volume create --help`.",
        get: |config| config.discovery.user.as_ref().and_then(quoted),
        set: |config, value| {
            config.discovery.user = Some(value.text()?);
            Ok(())
        },
    },
    Key {
        path: DISCOVERY_SECRET_FILE,
        takes: PATH,
        doc: "File that holds the CHAP secret for discovery, 12 to 255 bytes, and nothing else. Others must not be able \
              to read it.",
        get: |config| config.discovery.secret_file.as_ref().and_then(|file| quoted(file.display())),
        set: |config, value| {
            config.discovery.secret_file = Some(value.path()?);
            Ok(())
        },
    },
    Key {
        path: "disk.backend",
        takes: "`\"auto\"`, `\"io-uring\"` or `\"threads\"`",
        doc: "How disk operations that may block are carried out. `auto` takes io_uring, or threads where the kernel or \
              a container forbids it; `dyad node show` says which. With `io-uring` the node does not start where it is \
              forbidden.",
        get: |config| word(&BACKENDS, &config.settings.disk.backend),
        set: |config, value| {
            config.settings.disk.backend = value.word(&BACKENDS)?;
            Ok(())
        },
    },
    key!(
        "disk.threads",
        NUMBER,
        settings.disk.threads,
        plain,
        count,
        "Threads per disk where threads are used: 2 to 64."
    ),
    key!(
        "disk.lock_timeout",
        TIME,
        settings.disk.lock_timeout,
        time,
        period,
        "How long to wait for the lock of a pool, which operations of a killed process may still hold."
    ),
    key!(
        "disk.writeback_start",
        SIZE,
        settings.disk.writeback_start,
        quoted,
        size,
        "Written and not yet synced data per disk beyond which the disk is told to begin writing: 1 MiB to 64 GiB."
    ),
    Key {
        path: "api.socket",
        takes: PATH,
        doc: "Unix socket for administration. Whoever may open it may do everything.",
        get: |config| quoted(config.api.socket.display()),
        set: |config, value| {
            config.api.socket = value.path()?;
            Ok(())
        },
    },
    Key {
        path: "api.socket_mode",
        takes: "text of octal digits, at most \"0666\"",
        doc: "File mode of that socket: `0600` for its owner alone, `0660` for its group, too.",
        get: |config| quoted(format!("{:04o}", config.api.socket_mode)),
        set: |config, value| {
            let text = value.text()?;
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| mode & !0o666 == 0);
            config.api.socket_mode = mode.ok_or_else(|| format!("wants a mode such as \"0660\", not `{text}`"))?;
            Ok(())
        },
    },
    Key {
        path: "api.listen",
        takes: "address with port",
        doc: "TCP address for administration besides the socket, HTTP without TLS. On other than loopback addresses \
              `api.token_sha256` must be set; put a proxy with TLS in front, or use a network that only administrators \
              reach.",
        get: |config| config.api.listen.and_then(quoted),
        set: |config, value| {
            let text = value.text()?;
            let address =
                text.parse().map_err(|_| format!("wants an address such as \"127.0.0.1:8400\", not `{text}`"))?;
            config.api.listen = Some(address);
            config.settings.admin = vec![format!("http://{address}")];
            Ok(())
        },
    },
    Key {
        path: "api.token_sha256",
        takes: "text of 64 hexadecimal digits",
        doc: "SHA-256 of the token that TCP requests must show. `dyad token` makes a token and this hash. The token itself \
              belongs in no configuration.",
        get: |config| config.api.token.as_ref().and_then(quoted),
        set: |config, value| {
            // The text is not repeated: it might be the token itself.
            let hash = value.text()?.parse().map_err(|error| format!("is not a hash: {error}"))?;
            config.api.token = Some(hash);
            Ok(())
        },
    },
    Key {
        path: "log.level",
        takes: "`\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`",
        doc: "Least important lines that are logged, to the standard error. The environment variable `DYAD_LOG`, if set, \
              is used instead; it can name modules: `info,dyad_iscsi=debug`.",
        get: |config| word(&LEVELS, &config.log.level),
        set: |config, value| {
            config.log.level = value.word(&LEVELS)?;
            Ok(())
        },
    },
    Key {
        path: "log.format",
        takes: "`\"text\"` or `\"json\"`",
        doc: "Lines for people, or one JSON object each.",
        get: |config| word(&FORMATS, &config.log.format),
        set: |config, value| {
            config.log.format = value.word(&FORMATS)?;
            Ok(())
        },
    },
];
