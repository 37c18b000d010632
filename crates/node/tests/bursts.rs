//! Large commands: bursts of 1 MiB and more, asked for and unasked.

mod cast;

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Digests, Options};
use dyad_units::Bytes;

const MIB: usize = 1 << 20;

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at + seed) * 31 % 251) as u8 ^ (at >> 12) as u8).collect()
}

/// Writes and reads through, at odd places.
fn moves(host: &mut Disk, len: usize) {
    let data = pattern(len, len);
    host.write(24, data.clone()).unwrap();
    assert!(host.read(24, (len / 512) as u32).unwrap() == data, "{len} bytes");
}

/// The defaults: bursts of 1 MiB that are asked for.
#[test]
fn commands_of_a_mebibyte_and_more_go_through() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    assert_eq!(host.session().negotiated().max_burst, MIB);
    [MIB, MIB - 512, MIB + 512, 4 * MIB, 8 * MIB].into_iter().for_each(|len| moves(&mut host, len));
}

/// With settings for it all of a mebibyte comes unasked, with the command and right behind it.
#[test]
fn a_first_burst_of_a_mebibyte_needs_no_asking() {
    let stage = Stage::with(|settings| {
        settings.iscsi.burst_max = Bytes::mib(4);
        settings.iscsi.first_burst_max = Bytes::mib(1);
        settings.iscsi.receive_segment_max = Bytes::mib(1);
    });
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let all = Options { max_burst: 16_776_192, first_burst: 1 << 20, max_recv: 1 << 20, ..stage.login("v") };
    let digests = Digests { header: true, data: true };
    for (number, digests) in [Digests::default(), digests].into_iter().enumerate() {
        let options = Options { digests, session: number as u32, ..all.clone() };
        let mut host = Disk::open(&options).unwrap();
        let agreed = host.session().negotiated();
        assert_eq!((agreed.first_burst, agreed.max_burst, agreed.max_send), (MIB, 4 * MIB, MIB));
        [MIB, 5 * MIB].into_iter().for_each(|len| moves(&mut host, len));
        // Not in the command's own PDU, but right behind it.
        let mut host = Disk::open(&Options { immediate_data: false, ..options }).unwrap();
        moves(&mut host, MIB);
    }
}
