//! What clients do with a unit, whoever serves it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use dyad_bench::random::Random;

use crate::bridge::Bridge;
use crate::process::finish;
use crate::target::Target;

/// Copies of some hundred MiB take seconds; on a busy machine many.
const COPY: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

/// Makes a disk image with a partition-like mix: random data, zeros, holes and text, `mib` MiB long.
pub fn make_image(path: &Path, mib: u64, seed: u64) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; (mib * MIB) as usize];
    for chunk in bytes.chunks_mut(64 * 1024) {
        match random.below(4) {
            0 => {} // Zeros: clients may unmap or skip them.
            1 => chunk.fill(random.bits() as u8),
            2 => chunk.iter_mut().zip(b"The quick brown fox. ".iter().cycle()).for_each(|(to, from)| *to = *from),
            _ => chunk.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.bits().to_le_bytes())),
        }
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// `qemu-img convert` of a real image (qcow2) onto the unit and back, compared both ways.
pub fn qemu_img_round_trip(target: &dyn Target, dir: &Path, mib: u64) -> anyhow::Result<()> {
    let (raw, qcow, back) = (dir.join("image.raw"), dir.join("image.qcow2"), dir.join("back.raw"));
    make_image(&raw, mib, 42)?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let (raw, qcow, back, url) = (path(&raw), path(&qcow), path(&back), target.url());
    let qemu = |what: &str, args: &[&str]| finish("qemu-img", args, COPY)?.expect_success(what);
    qemu("make a qcow2 image", &["convert", "-f", "raw", "-O", "qcow2", &raw, &qcow])?;
    // -n: the unit exists already.
    qemu("copy it onto the unit", &["convert", "-n", "-f", "qcow2", "-O", "raw", &qcow, &url])?;
    qemu("compare", &["compare", "-f", "raw", "-F", "raw", &raw, &url])?;
    qemu("copy it back", &["convert", "-f", "raw", "-O", "raw", &url, &back])?;
    qemu("compare what came back", &["compare", "-f", "raw", "-F", "raw", &raw, &back])?;
    Ok(())
}

/// `fio --verify` through qemu-storage-daemon: random writes of several sizes and depths, then all of it verified.
pub fn fio_verify(target: &dyn Target, dir: &Path, mib: u64, seconds: u64) -> anyhow::Result<()> {
    let mut bridge = Bridge::start(dir, target)?;
    let job = format!(
        "[global]\nioengine=nbd\nuri={uri}\nsize={mib}m\nverify=crc32c\nverify_fatal=1\nverify_state_save=0\nverify_backlog=512\n\
         direct=0\ntime_based=0\nrandrepeat=1\nrandseed=77\n\
         [small]\nrw=randrw\nbs=4k\niodepth=32\noffset=0\nsize={quarter}m\n\
         [mixed]\nrw=randwrite\nbsrange=512-128k\nbs_unaligned=0\nblockalign=512\niodepth=16\noffset={quarter}m\n\
         size={quarter}m\nfsync=64\n\
         [large]\nrw=write\nbs=1m\niodepth=4\noffset={half}m\nsize={half}m\n",
        uri = bridge.uri(),
        quarter = mib / 4,
        half = mib / 2,
    );
    let file = dir.join("verify.fio");
    fs::write(&file, job)?;
    let args = ["--output-format=terse", &*file.to_string_lossy()];
    let fio = finish("fio", &args, Duration::from_secs(seconds))?.expect_success("fio --verify")?;
    ensure!(!fio.output.contains("verify: bad"), "fio found wrong data:\n{}", fio.output);
    ensure!(bridge.is_alive(), "the bridge ended while fio ran");
    Ok(())
}
