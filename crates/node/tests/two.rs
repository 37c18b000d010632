//! Two nodes and an arbiter: a volume with an image on each, served at both, whichever of them is there.

mod cast;

use cast::Stage;
use cast::pair::{Pair, in_sync, is_served, wait_until};
use dyad_bench::disk::Disk;

/// A host that comes again until it is let in and its command is carried out.
fn write(stage: &Stage, at: u64, data: &[u8]) {
    wait_until("a write", || Disk::open(&stage.login("v")).is_ok_and(|mut disk| disk.write(at, data.to_vec()).is_ok()));
}

fn read(stage: &Stage, at: u64, blocks: u32) -> Vec<u8> {
    let mut found = None;
    wait_until("a read", || {
        found = Disk::open(&stage.login("v")).ok().and_then(|mut disk| disk.read(at, blocks).ok());
        found.is_some()
    });
    found.unwrap()
}

/// M18: what is written at either node is read at both.
#[test]
fn a_volume_has_an_image_on_each_node_and_is_served_at_both() {
    let pair = Pair::new();
    let volume = pair.one.handle().volume("v").unwrap();
    let mut nodes: Vec<_> = volume.images.iter().map(|image| image.node).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), 2, "{volume:?}");
    let (mut here, mut there) = (pair.one.host("v"), pair.other.host("v"));
    here.write(0, vec![1; 4096]).unwrap();
    assert_eq!(there.read(0, 8).unwrap(), vec![1; 4096]);
    there.write(8, vec![2; 256 << 10]).unwrap();
    there.flush().unwrap();
    assert_eq!(here.read(8, 512).unwrap(), vec![2; 256 << 10]);
    here.unmap(8, 8).unwrap();
    assert_eq!(there.read(8, 16).unwrap(), [vec![0; 4096], vec![2; 4096]].concat());
    wait_until("both in sync", || in_sync(&pair.one) == 2);
}

/// M9, M12, M13: a node that stops hands over, and catches up when it is back; then the other way round.
#[test]
fn either_node_goes_and_comes_back() {
    let mut pair = Pair::new();
    write(&pair.one, 0, &[1; 4096]);
    for round in 0..2_u8 {
        let (goes, stays) =
            if round == 0 { (&mut pair.one, &mut pair.other) } else { (&mut pair.other, &mut pair.one) };
        goes.stop();
        assert_eq!(read(stays, 0, 8), vec![round + 1; 4096]);
        write(stays, 0, &[round + 2; 4096]);
        goes.start();
        wait_until("both in sync", || in_sync(stays) == 2);
        assert_eq!(read(goes, 0, 8), vec![round + 2; 4096]);
    }
}

/// Whichever node is asked, both give their image back.
#[test]
fn a_volume_is_deleted_on_both_nodes() {
    let pair = Pair::new();
    write(&pair.other, 0, &[1; 4096]);
    pair.other.handle().delete_volume("v", true).unwrap();
    wait_until("gone at both", || pair.one.handle().volumes().unwrap().is_empty());
    for (stage, pool) in [(&pair.one, "a"), (&pair.other, "b")] {
        wait_until("no image left", || stage.handle().pool(pool).unwrap().images == 0);
    }
    wait_until("made again", || pair.other.handle().create_volume(pair.other.volume("v", &[])).is_ok());
    wait_until("served", || pair.one.handle().volume("v").is_ok_and(|v| is_served(&v.phase)));
    assert_eq!(read(&pair.one, 0, 8), vec![0; 4096]);
}
