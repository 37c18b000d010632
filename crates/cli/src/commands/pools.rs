//! Pools and disks.

use std::path::{Path, PathBuf};

use dyad_api::model::{CreateDisk, CreatePool, Disk, DiskKind, Pool};

use super::{Session, ask, pairs_told};
use crate::args::{self, PoolCommand};
use crate::client::escape;
use crate::failure::Failure;
use crate::status::health;
use crate::table::{mean_micros, size};

pub fn run(at: &Session, command: PoolCommand) -> Result<(), Failure> {
    match command {
        PoolCommand::List => {
            at.list("/v1/pools", ["NODE", "NAME", ">SIZE", ">FREE", ">IMAGES", "HEALTH"], |pool: &Pool| {
                let (all, free) = (size(pool.capacity_bytes), size(pool.free_bytes));
                [pool.node.clone(), pool.name.clone(), all, free, pool.images.to_string(), state(pool)]
            })
        }
        PoolCommand::Show(show) => at.show(&path(&show.name), pool_told),
        PoolCommand::Create(args) => create(at, &args),
        PoolCommand::Open(args) => {
            let pool: Pool = at.client.post(&format!("{}/open", path(&args.name)), &())?;
            at.tell(&pool, |pool| format!("pool {} is open: {} free\n", pool.name, size(pool.free_bytes)));
            Ok(())
        }
        PoolCommand::Delete(args) => {
            ask::confirm(args.yes, &format!("pool `{}`", args.name), &args.name)?;
            let force = if args.force { "?force=true" } else { "" };
            at.client.delete(&format!("{}{force}", path(&args.name)))?;
            at.done(&format!("pool {} is gone; its disk can be used for something else", args.name));
            Ok(())
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/pools/{}", escape(name))
}

fn state(pool: &Pool) -> String {
    let state = health(pool.health);
    if pool.reason.is_empty() { state.into() } else { format!("{state}: {}", pool.reason) }
}

fn create(at: &Session, args: &args::CreatePool) -> Result<(), Failure> {
    let disk = CreateDisk {
        path: absolute(&args.disk)?,
        size_bytes: args.size.map(|size| size.value()),
        atomic_4k: args.atomic_4k,
    };
    let request = CreatePool { name: args.name.clone(), disks: vec![disk] };
    let pool: Pool = at.client.post("/v1/pools", &request)?;
    at.tell(&pool, |pool| format!("pool {} is ready: {} free\n", pool.name, size(pool.free_bytes)));
    Ok(())
}

/// The node may run in another directory.
fn absolute(path: &Path) -> Result<String, Failure> {
    let refuse = |why: String| Failure::Usage(format!("`{}` cannot be a disk: {why}", path.display()));
    let whole: PathBuf = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
    whole.into_os_string().into_string().map_err(|_| refuse("its path is not UTF-8".into()))
}

fn pool_told(pool: &Pool) -> String {
    let counters = &pool.counters;
    let orphans = pool.orphans.iter().map(|orphan| {
        format!(
            "\norphaned image {}, {}: no record names it, and nothing uses it\n",
            orphan.id,
            size(orphan.allocated_bytes)
        )
    });
    let told = pairs_told(&[
        ("name", pool.name.clone()),
        ("id", pool.id.to_string()),
        ("node", pool.node.clone()),
        ("health", state(pool)),
        ("size", size(pool.capacity_bytes)),
        ("free", size(pool.free_bytes)),
        ("images", pool.images.to_string()),
        ("marked regions", pool.marked_regions.to_string()),
        ("recent log", pool.recent_log.clone()),
        ("damaged blocks", format!("{}, {} of them healed", counters.damaged_blocks, counters.healed_blocks)),
        ("after crashes", format!("{} blocks adopted, {} torn", counters.adopted_blocks, counters.torn_blocks)),
        ("lost extents", counters.lost_extents.to_string()),
    ]);
    let advice = "delete what is of no use any more with `dyad image delete-orphan IMAGE`\n";
    let advice = if pool.orphans.is_empty() { "" } else { advice };
    told + &orphans.collect::<String>() + advice
}

pub fn list_disks(at: &Session) -> Result<(), Failure> {
    at.list("/v1/disks", ["PATH", "POOL", ">SIZE", ">ERRORS", "HEALTH"], |disk: &Disk| {
        let (errors, state) = (disk.errors.to_string(), health(disk.health).to_owned());
        [disk.path.clone(), disk.pool.clone(), size(disk.size_bytes), errors, state]
    })
}

pub fn show_disk(at: &Session, disk: &str) -> Result<(), Failure> {
    // A path may be given as it is seen from here; an id never names a file.
    let wanted = if Path::new(disk).exists() { absolute(Path::new(disk))? } else { disk.to_owned() };
    at.show(&format!("/v1/disks/{}", escape(&wanted)), disk_told)
}

fn disk_told(disk: &Disk) -> String {
    let did = &disk.activity;
    let kind = match disk.kind {
        DiskKind::File => "file",
        DiskKind::BlockDevice => "block device",
    };
    let journal = if disk.direct_io { "past the page cache" } else { "through the page cache, then synced: slower" };
    pairs_told(&[
        ("path", disk.path.clone()),
        ("id", disk.id.map_or_else(|| "could not be read".into(), |id| id.to_string())),
        ("pool", disk.pool.clone()),
        ("kind", kind.into()),
        ("health", health(disk.health).into()),
        ("size", size(disk.size_bytes)),
        ("writes untorn", size(disk.physical_block_bytes.into())),
        ("journal", journal.into()),
        ("reads", format!("{}, {}, mean {}", did.reads, size(did.read_bytes), mean_micros(did.read_micros, did.reads))),
        (
            "writes",
            format!("{}, {}, mean {}", did.writes, size(did.written_bytes), mean_micros(did.write_micros, did.writes)),
        ),
        ("syncs", disk.syncs.to_string()),
        ("errors", disk.errors.to_string()),
    ])
}
