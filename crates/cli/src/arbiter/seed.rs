//! A new store in the place of a lost one, from what nodes know (design section 8).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dyad_cluster::Kind;
use dyad_node::clock;
use dyad_store::{Known, OpenError, PlantError, ReadError, Seed, SeedError, plant};
use dyad_units::StoreId;

use super::place::Place;
use crate::bind;
use crate::failure::Failure;
use crate::table;

/// Makes the new store.
pub fn seed(data: &Path, from: &[PathBuf], store: Option<&str>, json: bool) -> Result<(), Failure> {
    let known: Vec<_> = from.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let lost = lost(from, &known, store)?;
    let seed = Seed::gather(lost, known, Vec::new()).map_err(|error| cannot_gather(&error))?;
    let place = Place::take(data)?;
    let fresh = StoreId::from_bytes(clock::random_id());
    plant(&place.store(), fresh, &seed).map_err(|error| {
        let advice = match error {
            PlantError::Exists { .. } => "move it away first; it is not touched",
            _ => "nothing was put in the store's place; mend that and repeat it",
        };
        Failure::failed(bind::chain(&error), advice)
    })?;
    let count = |kind| seed.records.iter().filter(|record| record.key().kind() == kind).count();
    let [nodes, pools, segments, volumes] = [Kind::Node, Kind::Pool, Kind::Segment, Kind::Volume].map(count);
    if json {
        let told = serde_json::json!({
            "store": fresh.to_string(), "lost": lost.to_string(),
            "nodes": nodes, "pools": pools, "segments": segments, "volumes": volumes,
        });
        table::print(&format!("{told}\n"));
    } else {
        table::print(&format!(
            "The config store {fresh} takes the place of {lost}.\n\
             It has the records of {nodes} nodes, {pools} pools, {segments} segments and {volumes} volumes.\n\
             Start it with `dyad arbiter`. Nodes refuse it until they are told that it is the new one.\n"
        ));
    }
    Ok(())
}

/// Writes an export.
pub fn export(from: &Path, to: &Path) -> Result<(), Failure> {
    let known = read(from)?;
    known.export(to).map_err(|error| {
        Failure::failed(format!("cannot write {}: {error}", to.display()), "it is made anew, so it must not be there")
    })?;
    table::print(&format!("{} records of the config store {}\n", known.records.len(), known.store));
    Ok(())
}

pub fn read(path: &Path) -> Result<Known, Failure> {
    Known::read(path).map_err(|error| {
        let advice = match error {
            ReadError::Open(OpenError::Locked { .. }) => {
                "take a copy of the file, made while the config store was lost"
            }
            _ => "give it the files of other nodes",
        };
        Failure::failed(bind::chain(&error), advice)
    })
}

/// The store that the files are of, all of them unless it was named.
pub fn lost(from: &[PathBuf], known: &[Known], named: Option<&str>) -> Result<StoreId, Failure> {
    if let Some(named) = named {
        return named.parse().map_err(|error| Failure::Usage(format!("--store: {error}")));
    }
    let stores: BTreeSet<_> = known.iter().map(|known| known.store).collect();
    match (stores.first(), stores.len()) {
        (Some(&store), 1) => Ok(store),
        _ => {
            let of: BTreeMap<_, _> = from.iter().zip(known).map(|(path, known)| (path, known.store)).collect();
            let told: Vec<_> = of.iter().map(|(path, store)| format!("  {store}  {}", path.display())).collect();
            Err(Failure::Usage(format!(
                "the files are of several config stores; say with --store which one was lost\n{}",
                told.join("\n")
            )))
        }
    }
}

fn cannot_gather(error: &SeedError) -> Failure {
    let advice = match error {
        SeedError::Differs { .. } => "leave out the file of the node that is wrong",
        _ => "give it the files of other nodes",
    };
    Failure::failed(bind::chain(error), advice)
}
