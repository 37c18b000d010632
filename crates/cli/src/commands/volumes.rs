//! Volumes and their images.

use std::path::Path;

use dyad_api::model::{Chap, CreateAccess, CreateVolume, ForgetReservations, Image, Volume, VolumeState, WhenFew};

use super::{Session, ask, hosts, images, pairs_told};
use crate::args::{self, VolumeCommand, WhenFewWord};
use crate::client::escape;
use crate::config;
use crate::failure::Failure;
use crate::table::{Columns, count, mean_micros, size};

pub fn run(at: &Session, command: VolumeCommand) -> Result<(), Failure> {
    match command {
        VolumeCommand::List => {
            let heads = ["NAME", ">SIZE", "STATE", ">SESSIONS", "REDUNDANT", "TARGET"];
            at.list("/v1/volumes", heads, |volume: &Volume| {
                let (all, sessions) = (size(volume.size_bytes), volume.sessions.to_string());
                let sentence = volume.redundancy.sentence.clone();
                [volume.name.clone(), all, state(volume.state).into(), sessions, sentence, volume.target.clone()]
            })
        }
        VolumeCommand::Show(show) => at.show(&path(&show.name), volume_told),
        VolumeCommand::Create(args) => create(at, &args),
        command @ (VolumeCommand::MoveOwner(_) | VolumeCommand::PreferOwner(_) | VolumeCommand::Promote(_)) => {
            images::run_owner(at, command)
        }
        VolumeCommand::ForgetReservations(args) => forget_reservations(at, &args),
        VolumeCommand::Qos(args) => hosts::limit(at, &args),
        VolumeCommand::Access(args) => hosts::access(at, &args),
        VolumeCommand::Delete(args) => {
            ask::confirm(args.yes, &format!("volume `{}` and its data", args.name), &args.name)?;
            let force = if args.force { "?force=true" } else { "" };
            at.client.delete(&format!("{}{force}", path(&args.name)))?;
            at.done(&format!("volume {} is gone", args.name));
            Ok(())
        }
    }
}

pub fn path(name: &str) -> String {
    format!("/v1/volumes/{}", escape(name))
}

/// In capitals when it needs attention.
fn state(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Creating => "creating",
        VolumeState::Serving => "serving",
        VolumeState::Unavailable => "UNAVAILABLE",
        VolumeState::Deleting => "deleting",
    }
}

fn create(at: &Session, args: &args::CreateVolume) -> Result<(), Failure> {
    let size = args.size.size.or(args.size.size_option);
    let size = size.ok_or_else(|| Failure::Usage("give the volume a size: `dyad volume create NAME SIZE`".into()))?;
    let request = CreateVolume {
        name: args.name.clone(),
        size_bytes: size.value(),
        pools: args.pools.clone(),
        block_bytes: args.block_bytes,
        write_cache: !args.no_write_cache,
        min_in_sync: args.min_in_sync,
        when_few: match args.when_few {
            WhenFewWord::Error => WhenFew::Error,
            WhenFewWord::Wait => WhenFew::Wait,
        },
        access: CreateAccess {
            initiators: args.initiators.clone(),
            chap: chap(args.chap_user.as_deref(), args.chap_secret_file.as_deref())?,
            mutual_chap: chap(args.mutual_chap_user.as_deref(), args.mutual_chap_secret_file.as_deref())?,
        },
    };
    let volume: Volume = at.client.post("/v1/volumes", &request)?;
    at.tell(&volume, |volume| format!("volume {} is served as {}\n", volume.name, volume.target));
    Ok(())
}

fn forget_reservations(at: &Session, args: &args::ForgetReservations) -> Result<(), Failure> {
    let word = ForgetReservations { accept_loss: args.yes_lose_reservations, force: args.force };
    let volume: Volume = at.client.post(&format!("{}/forget-reservations", path(&args.name)), &word)?;
    at.tell(&volume, |volume| format!("nobody has registered or reserved volume {} any more\n", volume.name));
    Ok(())
}

/// The command line makes sure that both are given or none.
fn chap(user: Option<&str>, file: Option<&Path>) -> Result<Option<Chap>, Failure> {
    let (Some(user), Some(file)) = (user, file) else { return Ok(None) };
    let secret = config::read_secret(file).map_err(Failure::Usage)?;
    Ok(Some(Chap { user: user.to_owned(), secret }))
}

fn volume_told(volume: &Volume) -> String {
    let access = &volume.access;
    let hosts = hosts::told(access);
    let did = &volume.activity;
    let state = state(volume.state);
    let comparing = volume.comparing_extents;
    let mut text = pairs_told(&[
        ("redundant", volume.redundancy.sentence.clone()),
        ("name", volume.name.clone()),
        ("id", volume.id.to_string()),
        ("target", volume.target.clone()),
        ("state", if volume.reason.is_empty() { state.into() } else { format!("{state}: {}", volume.reason) }),
        ("owner", volume.owner.clone().unwrap_or_default()),
        ("preferred owner", volume.preferred_owner.as_ref().map(images::wish_told).unwrap_or_default()),
        ("comparing", if comparing == 0 { String::new() } else { format!("{comparing} extents after a restart") }),
        ("size", size(volume.size_bytes)),
        ("logical block", volume.block_bytes.to_string()),
        ("write cache", if volume.write_cache { "on" } else { "off" }.into()),
        ("min in-sync", volume.min_in_sync.to_string()),
        ("hosts allowed", hosts),
        ("limits", hosts::limits_told(&volume.limits)),
        ("CHAP", access.chap_user.clone().unwrap_or_default()),
        ("mutual CHAP", access.mutual_chap_user.clone().unwrap_or_default()),
        ("sessions", format!("{}, {} in flight", volume.sessions, count(volume.in_flight as usize, "command"))),
        ("reads", format!("{}, {}, mean {}", did.reads, size(did.read_bytes), mean_micros(did.read_micros, did.reads))),
        (
            "writes",
            format!("{}, {}, mean {}", did.writes, size(did.written_bytes), mean_micros(did.write_micros, did.writes)),
        ),
        ("errors", did.errors.to_string()),
    ]);
    text.push('\n');
    let mut columns = Columns::new(&["IMAGE", "NODE", "POOL", ">ALLOCATED", "STATE", "PROGRESS"]);
    for image in &volume.images {
        let (node, told) = (image.node_name.clone(), images::progress_told(image));
        columns.row([image.id.to_string(), node, image.pool.clone(), allocated(image), image_state(image), told]);
    }
    text + &columns.finish()
}

pub fn allocated(image: &Image) -> String {
    image.allocated_bytes.map_or_else(|| "-".into(), size)
}

pub fn image_state(image: &Image) -> String {
    if image.reason.is_empty() { image.state.to_string() } else { format!("{}: {}", image.state, image.reason) }
}

pub fn image_told(image: &Image) -> String {
    pairs_told(&[
        ("id", image.id.to_string()),
        ("volume", image.volume.clone()),
        ("node", image.node_name.clone()),
        ("pool", image.pool.clone()),
        ("state", image_state(image)),
        ("allocated", allocated(image)),
    ]) + &images::more_told(image)
}
