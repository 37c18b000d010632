//! Images and owners, changed while hosts use the volume.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use dyad_api::model::{AcceptLoss, AddImage, Image, ImageState, Loss, NewOwner, Place, PreferredOwner, Volume};

use super::volumes::{allocated, image_state, image_told, path as volume_path};
use super::{Session, ask, pairs_told};
use crate::args::{self, ImageCommand, VolumeCommand};
use crate::client::escape;
use crate::failure::Failure;
use crate::table::size;

pub fn run(at: &Session, command: ImageCommand) -> Result<(), Failure> {
    match command {
        ImageCommand::List => list(at),
        ImageCommand::Show { id } => at.show(&path(&id), |image: &Image| image_told(image)),
        ImageCommand::Add(args) => add(at, args),
        ImageCommand::Move(args) => relocate(at, args),
        ImageCommand::Remove(args) => {
            let image = find(at, &args.volume, &args.image)?;
            let what = format!("the image in pool {} of volume `{}`", image.pool, image.volume);
            ask::confirm(args.yes, &what, &image.volume)?;
            at.client.delete(&format!(
                "{}?force={}&forget={}",
                path(&image.id.to_string()),
                args.force,
                args.forget
            ))?;
            at.done(&format!("volume {} has no image in pool {} any more", image.volume, image.pool));
            Ok(())
        }
        ImageCommand::DeleteOrphan(args) => {
            let id = args.image.to_string();
            ask::confirm(args.yes, &format!("the orphaned image {id}"), &id)?;
            at.client.delete(&format!("/v1/orphans/{id}"))?;
            at.done(&format!("image {id} is gone"));
            Ok(())
        }
        ImageCommand::Detach(args) => {
            let image = find(at, &args.volume, &args.image)?;
            let image: Image = at.client.post(&format!("{}/detach", path(&image.id.to_string())), &())?;
            at.tell(&image, |image| format!("the image in pool {} stays as it is\n", image.pool));
            Ok(())
        }
        ImageCommand::Reattach(args) => {
            let image = find(at, &args.volume, &args.image)?;
            let word = AcceptLoss { accept_loss: args.yes_lose_data };
            let image: Image = at.client.post(&format!("{}/reattach", path(&image.id.to_string())), &word)?;
            at.tell(&image, |image| format!("the image in pool {} is {}\n", image.pool, image_state(image)));
            Ok(())
        }
        ImageCommand::Export(args) => export(at, &args),
        ImageCommand::Unexport(args) => {
            let image = find(at, &args.volume, &args.image)?;
            at.client.delete(&format!("{}/export", path(&image.id.to_string())))?;
            at.done(&format!("the image in pool {} is not exported any more", image.pool));
            Ok(())
        }
        ImageCommand::Loss(args) => {
            let image = find(at, &args.volume, &args.image)?;
            at.show(&format!("{}/loss", path(&image.id.to_string())), loss_told)
        }
    }
}

/// What changes the owner.
pub fn run_owner(at: &Session, command: VolumeCommand) -> Result<(), Failure> {
    match command {
        VolumeCommand::MoveOwner(args) => {
            let to = NewOwner { node: args.to };
            let volume: Volume = at.client.post(&format!("{}/owner", volume_path(&args.name)), &to)?;
            at.tell(&volume, owner_told);
        }
        VolumeCommand::PreferOwner(args) => {
            let wish = PreferredOwner { node: args.node, automatic_after_seconds: args.automatic_after };
            let path = format!("{}/preferred-owner", volume_path(&args.name));
            let volume: Volume = at.client.put(&path, &wish)?;
            at.tell(&volume, |volume| match &volume.preferred_owner {
                Some(wish) => format!("volume {} should be owned by {}\n", volume.name, wish_told(wish)),
                None => format!("any node may own volume {}\n", volume.name),
            });
        }
        VolumeCommand::Promote(args) => {
            let image = find(at, &args.name, &args.image)?;
            let word = AcceptLoss { accept_loss: args.yes_lose_data };
            let volume: Volume = at.client.post(&format!("{}/promote", path(&image.id.to_string())), &word)?;
            at.tell(&volume, owner_told);
        }
        _ => {}
    }
    Ok(())
}

fn owner_told(volume: &Volume) -> String {
    let owner = volume.owner.as_deref().unwrap_or("no node");
    format!("volume {} is owned by {owner}; redundant: {}\n", volume.name, volume.redundancy.sentence)
}

pub fn wish_told(wish: &PreferredOwner) -> String {
    let node = wish.node.clone().unwrap_or_default();
    match wish.automatic_after_seconds {
        Some(seconds) => format!("{node}, by itself {seconds} s after it is well again"),
        None => format!("{node}, moved by hand"),
    }
}

fn path(image: &str) -> String {
    format!("/v1/images/{}", escape(image))
}

/// An image by its id, or by its node or pool where that has one only.
fn find(at: &Session, volume: &str, which: &str) -> Result<Image, Failure> {
    let volume: Volume = at.client.get(&volume_path(volume))?;
    let pool = |image: &Image| match image.pool.contains('/') {
        true => image.pool.clone(),
        false => format!("{}/{}", image.node_name, image.pool),
    };
    let is_it = |image: &&Image| {
        image.id.to_string() == which || image.node_name == which || image.pool == which || pool(image) == which
    };
    let found: Vec<&Image> = volume.images.iter().filter(is_it).collect();
    match found[..] {
        [image] => Ok(image.clone()),
        [] => Err(Failure::failed(
            format!("volume `{}` has no image at `{which}`", volume.name),
            "`dyad volume show` shows its images; name one by NODE, NODE/POOL or its id",
        )),
        _ => Err(Failure::failed(
            format!("volume `{}` has several images at `{which}`", volume.name),
            "name one by NODE/POOL or its id",
        )),
    }
}

fn add(at: &Session, args: args::AddImage) -> Result<(), Failure> {
    let request = AddImage { volume: args.volume, node: args.node, pool: args.pool };
    let image: Image = at.client.post("/v1/images", &request)?;
    at.tell(&image, coming);
    Ok(())
}

fn relocate(at: &Session, args: args::MoveImage) -> Result<(), Failure> {
    let image = find(at, &args.volume, &args.image)?;
    let to = Place { node: args.to, pool: args.pool };
    let image: Image = at.client.post(&format!("{}/move", path(&image.id.to_string())), &to)?;
    at.tell(&image, coming);
    Ok(())
}

fn export(at: &Session, args: &args::ExportImage) -> Result<(), Failure> {
    let image = find(at, &args.volume, &args.image)?;
    if let Some(output) = &args.output {
        return copy(at, &image, output);
    }
    let image: Image = at.client.post(&format!("{}/export", path(&image.id.to_string())), &())?;
    at.tell(&image, |image| {
        let target = image.export.as_deref().unwrap_or_default();
        format!("the image in pool {} is exported by node {}, read-only, as {target}\n", image.pool, image.node_name)
    });
    Ok(())
}

/// Copies all of it, or leaves no file: half a copy looks like a whole one.
fn copy(at: &Session, image: &Image, output: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(
            format!("{} cannot be written: {error}", output.display()),
            "name a new file, where there is room",
        )
    };
    let mut file = File::create_new(output).map_err(failed)?;
    let copied = copy_to(at, image, &mut file, failed).and_then(|bytes| {
        file.sync_all().map_err(failed)?;
        Ok(bytes)
    });
    match copied {
        Ok(bytes) => at.done(&format!("{} of volume {} are in {}", size(bytes), image.volume, output.display())),
        Err(_) => drop(std::fs::remove_file(output)),
    }
    copied.map(drop)
}

/// The bytes; what is zero becomes a hole. Each read is a request of its own, so it has to be one and the same detached image
/// from the first to the last.
fn copy_to(
    at: &Session,
    image: &Image,
    file: &mut File,
    failed: impl Fn(std::io::Error) -> Failure,
) -> Result<u64, Failure> {
    let (path, begun) = (path(&image.id.to_string()), Instant::now());
    let mut offset = 0;
    loop {
        let bytes = at.client.get_bytes(&format!("{path}/content?offset={offset}"))?;
        if bytes.is_empty() {
            break;
        }
        for block in bytes.chunks(4096) {
            if block.iter().all(|&byte| byte == 0) {
                file.seek(SeekFrom::Current(block.len() as i64)).map_err(&failed)?;
            } else {
                file.write_all(block).map_err(&failed)?;
            }
        }
        offset += bytes.len() as u64;
    }
    file.set_len(offset).map_err(&failed)?;
    let now: Image = at.client.get(&path)?;
    // In whole seconds, each of them rounded down.
    let least = (image.out_seconds.unwrap_or(0) + begun.elapsed().as_secs()).saturating_sub(1);
    if now.state == ImageState::Detached && now.out_seconds.is_none_or(|seconds| seconds >= least) {
        return Ok(offset);
    }
    let what = format!("the image in pool {} of volume {} did not stay as it was", image.pool, image.volume);
    Err(Failure::failed(what, "copy it again, and let it not be reattached meanwhile"))
}

fn coming(image: &Image) -> String {
    let (volume, node, pool) = (&image.volume, &image.node_name, &image.pool);
    format!("volume {volume} gets an image on {node} in pool {pool}; `dyad volume show {volume}` says how far it is\n")
}

fn loss_told(loss: &Loss) -> String {
    let mut text = format!("{}\n", loss.sentence);
    for range in &loss.ranges {
        text.push_str(&format!("  {} at {}\n", size(range.bytes), range.offset));
    }
    if loss.is_cut {
        text.push_str("  and more\n");
    }
    text
}

fn list(at: &Session) -> Result<(), Failure> {
    at.list("/v1/images", ["ID", "VOLUME", "NODE", "POOL", ">ALLOCATED", "STATE"], |image: &Image| {
        let node = image.node_name.clone();
        [image.id.to_string(), image.volume.clone(), node, image.pool.clone(), allocated(image), image_state(image)]
    })
}

/// How far an image's catching up is, and since when it is out.
pub fn progress_told(image: &Image) -> String {
    let since = image.out_seconds.map(|seconds| format!("out for {}", crate::table::time(seconds)));
    let progress = image.progress.as_ref().map(|progress| {
        let left = progress.seconds_left.map_or_else(String::new, |seconds| format!(", about {seconds} s"));
        format!(
            "{}: {} done, {} left, {} sent, {}/s{left}",
            progress.stage,
            size(progress.done_bytes),
            size(progress.left_bytes),
            size(progress.sent_bytes),
            size(progress.bytes_per_second)
        )
    });
    since.into_iter().chain(progress).collect::<Vec<_>>().join("; ")
}

pub fn more_told(image: &Image) -> String {
    pairs_told(&[
        ("exported as", image.export.clone().unwrap_or_default()),
        ("replaces", image.replaces.map(|id| id.to_string()).unwrap_or_default()),
        ("progress", progress_told(image)),
    ])
}
