//! Commands that need no node.

use std::fs::File;
use std::io::Read;

use clap::CommandFactory;
use dyad_api::TokenHash;

use crate::args::{Cli, ConfigCommand};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::table;

pub fn config(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check { file } => {
            Config::load(file).map_err(|errors| Failure::Usage(format!("the configuration is wrong\n{errors}")))?;
            table::print(&format!("{} is a good configuration\n", file.display()));
        }
        ConfigCommand::Example => table::print(&config::example()),
        ConfigCommand::Reference => table::print(&config::reference()),
    }
    Ok(())
}

/// A token of 256 random bits and what the configuration keeps of it.
pub fn token(json: bool) -> Result<(), Failure> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| Failure::failed(format!("cannot read random bytes from /dev/urandom: {error}"), ""))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let hash = TokenHash::of(&token);
    if json {
        table::print(&format!("{}\n", serde_json::json!({ "token": token, "sha256": hash.to_string() })));
    } else {
        table::print(&format!(
            "Keep this where administrators find it, and nowhere else:\n  {token}\n\n\
             Put this into the node's configuration, under [api]:\n  token_sha256 = \"{hash}\"\n"
        ));
    }
    Ok(())
}

pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dyad", &mut script);
    table::print(&String::from_utf8_lossy(&script));
    Ok(())
}
