//! Another config store in the place of the one before.

use std::path::Path;

use dyad_node::adopt::{self, AdoptError};

use crate::arbiter::{lost, read};
use crate::args::{AcceptStore, SeedStore};
use crate::bind;
use crate::config::Config;
use crate::failure::Failure;
use crate::table;

/// Makes etcd the store, from what nodes know.
pub fn seed(args: &SeedStore) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let known: Vec<_> = args.from.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let before = lost(&args.from, &known, args.store.as_deref())?;
    let made = adopt::seed_store(&config.settings, before, known).map_err(|error| failed(&error))?;
    table::print(&format!(
        "The config store {made} in etcd takes the place of {before}.\n\
         Nodes refuse it until each was told: stop it, `dyad cluster accept-store`, start it.\n"
    ));
    Ok(())
}

/// Lets a stopped node accept the store of its configuration.
pub fn accept(args: &AcceptStore) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let adopted = adopt::adopt_store(&config.settings).map_err(|error| failed(&error))?;
    table::print(&match adopted.copy {
        None => format!("This node uses the config store {} already; nothing was changed.\n", adopted.now),
        Some(copy) => format!(
            "This node uses the config store {} from now on, in the place of {}.\n\
             What it knew of that one is kept in {}.\n",
            adopted.now,
            adopted.before,
            copy.display()
        ),
    });
    Ok(())
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|errors| Failure::Usage(format!("the configuration is wrong\n{errors}")))
}

fn failed(error: &AdoptError) -> Failure {
    let advice = match error {
        AdoptError::Open(_) => "stop the node first",
        AdoptError::Unknown { .. } | AdoptError::Missing => "`dyad cluster seed --help` and `dyad arbiter seed --help`",
        _ => "nothing was changed; mend that and repeat it",
    };
    Failure::failed(bind::chain(error), advice)
}
