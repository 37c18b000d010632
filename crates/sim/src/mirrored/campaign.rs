//! Whole lives of a segment from one seed: work, crash, start, look; again and again.

use dyad_cluster::{ImageState, OutReason};
use dyad_mirror::ImageStatus;

use super::{Cast, Mirrored};
use crate::campaign::Finding;
use crate::model::{Crash, Violation};
use crate::player::Stop;
use crate::rng::Rng;

/// Lives of one segment in a run.
const LIVES: u64 = 8;

/// A cast drawn by the seed.
pub fn draw_cast(rng: &mut Rng) -> Cast {
    let mut cast = Cast::pair();
    cast.unit = if rng.chance(1, 2) { 512 } else { 4096 };
    cast.log_bytes = [24 << 10, 64 << 10, 256 << 10][rng.index(3)];
    cast.habits.depth = 1 + rng.index(16);
    cast.habits.eagerness = 5 + rng.below(60);
    cast
}

/// One whole run with crashes of these kinds. Every acknowledged or flushed write must be there, and both images in
/// sync and equal, for no disk ever fails.
pub fn live_through(seed: u64, crashes: &[Crash], keeps_story: bool) -> Result<(), Box<Finding>> {
    let mut rng = Rng::new(seed);
    let mut story = Vec::new();
    play(seed, &mut rng, crashes, keeps_story, &mut story).map_err(|stop| match stop {
        Stop::Violation(violation) => Box::new(Finding { seed, violation, story }),
        Stop::Fuse => unreachable!("no fuse is lit here"),
    })
}

fn play(seed: u64, rng: &mut Rng, crashes: &[Crash], keeps_story: bool, story: &mut Vec<String>) -> Result<(), Stop> {
    let mut mirrored = Mirrored::new(draw_cast(rng), seed)?;
    for life in 0..=LIVES {
        mirrored.story.is_kept = keeps_story;
        let lived = live(&mut mirrored, rng, life);
        story.extend(mirrored.story.lines().map(str::to_owned));
        if !lived? {
            return Ok(());
        }
        let crash = crashes[rng.index(crashes.len())];
        story.push(format!("--- {crash:?}"));
        mirrored = mirrored.crash(crash, rng).start(rng)?;
    }
    Ok(())
}

/// Whether both images are still in sync. One may be taken out although nothing failed, where the process dies after one
/// image was told that a power cut is made up for and before the other was: it comes back by a resync, which the cluster
/// runs play; here the run ends.
fn live(mirrored: &mut Mirrored, rng: &mut Rng, life: u64) -> Result<bool, Stop> {
    // Now and then the next crash comes while the images are still being made equal.
    let happenings = if rng.chance(1, 3) { rng.below(400) } else { 200 + rng.below(6000) };
    mirrored.run(happenings as u32, |_| Ok(()))?;
    if life % 2 == 1 || life == LIVES {
        mirrored.inspect()?;
    }
    let status = mirrored.status();
    if status.good_images() == status.images.len() {
        return Ok(true);
    }
    let is_in_sync = |image: &ImageStatus| image.state == ImageState::InSync && !image.is_failing;
    let forgot = |image: &ImageStatus| image.reason == Some(OutReason::Forgot);
    let is_excused = mirrored.excuses.forgot && status.images.iter().all(|image| is_in_sync(image) || forgot(image));
    if !is_excused {
        let text = format!("an image was taken out although no disk failed: {status:?}");
        return Err(Violation(text).into());
    }
    mirrored.inspect()?;
    Ok(false)
}
