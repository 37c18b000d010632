//! Two nodes and an arbiter: a volume with an image on each, served at both, whichever of them is there.

mod cast;

use cast::Stage;
use cast::pair::{OTHER_OWNER, Pair, in_sync, is_served, patiently, wait_until};
use dyad_bench::disk::Disk;
use dyad_bench::initiator::Transfer;
use dyad_units::Bytes;

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

/// What broke: 64 MiB of data that waited for one link tore it, for all volumes of both nodes, and what was under way was sent
/// again in one go when it was back. Zeros are slices of one buffer, which no budget of memory holds back.
#[test]
fn zeroing_much_at_once_does_not_part_the_nodes() {
    /// Commands at a time, and the sectors of each: 16 MiB.
    const COMMANDS: u32 = 8;
    const SECTORS: u32 = 32768;
    const ROUNDS: usize = 3;
    let pair = Pair::new();
    let mut volume = pair.one.volume("zeroed", &[]);
    volume.size = Bytes::mib(128);
    pair.one.handle().create_volume(volume).unwrap();
    let is_whole = || {
        let images = pair.one.handle().images().unwrap();
        let of_it = images.iter().filter(|image| image.volume_name == "zeroed" && image.state == "in-sync");
        of_it.count() == 2 && pair.one.handle().status().unwrap().neighbours[0].is_connected
    };
    wait_until("both in sync", is_whole);
    let owner = pair.one.handle().volume("zeroed").unwrap().owner_name;
    let mut host = if owner.as_deref() == Some("one") { &pair.one } else { &pair.other }.host("zeroed");
    patiently(|| host.write(0, vec![1; 4096]), |sense| sense == OTHER_OWNER).unwrap();
    std::thread::scope(|scope| {
        let zeroing = scope.spawn(|| {
            let mut left: Vec<u32> = (0..COMMANDS).collect();
            // What is told news of paths is sent again.
            for _ in 0..ROUNDS {
                for number in &left {
                    // WRITE SAME (16) without data (NDOB, SBC-4 §5.52).
                    let mut cdb = [0; 16];
                    (cdb[0], cdb[1]) = (0x93, 1);
                    cdb[6..10].copy_from_slice(&(number * SECTORS).to_be_bytes());
                    cdb[10..14].copy_from_slice(&SECTORS.to_be_bytes());
                    host.session().submit(u64::from(*number), cdb, Transfer::None).unwrap();
                }
                let ended: Vec<_> = left.iter().map(|_| host.session().wait().unwrap()).collect();
                left = ended.iter().filter(|ended| ended.status != 0).map(|ended| ended.user as u32).collect();
            }
            left
        });
        while !zeroing.is_finished() {
            assert!(is_whole(), "the nodes were parted");
        }
        assert_eq!(zeroing.join().unwrap(), [0; 0], "not carried out");
    });
    assert!(is_whole());
    assert_eq!(host.read(0, 8).unwrap(), [0; 4096]);
}
