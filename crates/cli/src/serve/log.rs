//! The log. Secrets never get here: the types that hold them do not print them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogConfig, LogFormat};
use crate::failure::Failure;

/// Overrides the configured level; can name modules.
const VARIABLE: &str = "DYAD_LOG";
/// A log file that has grown over this is begun anew: a quickstart is nothing to keep records of.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Logs to the standard error, where systemd takes it up.
pub fn to_stderr(config: &LogConfig) {
    begin(config, std::io::stderr, std::env::var_os("JOURNAL_STREAM").is_none());
}

/// Logs to a file, so that the screen stays free.
pub fn to_file(config: &LogConfig, path: &Path) -> Result<(), Failure> {
    let old = path.metadata().is_ok_and(|found| found.len() > FILE_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600).append(!old).write(true).truncate(old);
    let file: File = options
        .open(path)
        .map_err(|error| Failure::failed(format!("cannot write the log {}: {error}", path.display()), ""))?;
    begin(config, Mutex::new(file), true);
    Ok(())
}

fn begin<W>(config: &LogConfig, to: W, with_time: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let by_level = || EnvFilter::new(config.level.as_str().to_lowercase());
    let filter = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or_else(by_level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to).with_ansi(false);
    // A second log in one process would be a fault of ours; it must not stop a node.
    let _ = match (config.format, with_time) {
        (LogFormat::Json, _) => lines.json().try_init(),
        (LogFormat::Text, true) => lines.try_init(),
        (LogFormat::Text, false) => lines.without_time().try_init(),
    };
}
