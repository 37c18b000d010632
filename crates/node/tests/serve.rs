//! A node from the outside: pools and volumes are made, hosts read and write, everything is there after a
//! restart.

mod cast;

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session};
use dyad_node::control::{CreateVolume, PoolPhase, VolumePhase};

#[test]
fn a_host_reads_zeros_from_a_new_volume() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    assert_eq!(host.capacity().bytes(), 64 << 20);
    assert!(host.read(0, 128).unwrap().iter().all(|&byte| byte == 0));
    host.logout().unwrap();
}

#[test]
fn what_was_written_is_read_and_survives_a_restart() {
    let mut stage = Stage::mirrored();
    let mut host = stage.host("v");
    let odd: Vec<u8> = (0..512 * 3).map(|i| (i % 251) as u8).collect();
    let large: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 4096 + i) as u8).collect();
    host.write(5, odd.clone()).unwrap();
    host.write(2048, large.clone()).unwrap();
    assert_eq!(host.read(5, 3).unwrap(), odd);
    assert_eq!(host.read(2048, 2048).unwrap(), large);
    host.flush().unwrap();
    host.logout().unwrap();
    stage.restart();
    let mut host = stage.host("v");
    assert_eq!(host.read(5, 3).unwrap(), odd);
    assert_eq!(host.read(2048, 2048).unwrap(), large);
    let volume = stage.handle().volume("v").unwrap();
    assert_eq!((volume.redundancy.in_sync, volume.redundancy.wanted), (2, 2), "{:?}", volume.redundancy);
    assert!(matches!(volume.phase, VolumePhase::Serving { comparing: 0 }));
    assert_eq!(stage.handle().node().unwrap().starts, 2);
}

#[test]
fn a_node_tells_what_it_has() {
    let stage = Stage::mirrored();
    let host = stage.host("v");
    let status = stage.handle().status().unwrap();
    assert_eq!(status.pools.len(), 2);
    assert!(status.pools.iter().all(|pool| pool.phase == PoolPhase::Open && pool.images == 1));
    assert_eq!(status.volumes[0].images.len(), 2);
    assert_eq!(status.sessions.len(), 1);
    assert_eq!(status.sessions[0].volume.as_deref(), Some("v"));
    assert_eq!(status.volumes[0].sessions, 1);
    drop(host);
}

#[test]
fn a_deleted_volume_gives_its_space_back_and_its_pools_can_go() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    host.write(0, vec![7; 1 << 20]).unwrap();
    host.flush().unwrap();
    assert!(stage.handle().delete_pool("a", false).is_err(), "it holds an image");
    assert!(stage.handle().delete_volume("v", false).is_err(), "a host uses it");
    stage.handle().delete_volume("v", true).unwrap();
    for pool in stage.handle().pools().unwrap() {
        assert_eq!((pool.free, pool.images), (pool.total, 0), "{}", pool.name);
    }
    stage.handle().delete_pool("a", false).unwrap();
    assert_eq!(stage.handle().pools().unwrap().len(), 1);
    let again = dyad_node::control::CreatePool { size: None, ..stage.pool("a") };
    stage.handle().create_pool(again).unwrap();
}

#[test]
fn what_was_unmapped_reads_as_zeros_down_to_the_sector() {
    let stage = Stage::mirrored();
    let mut host = stage.host("v");
    let last = host.capacity().bytes() / 512 - 1;
    for (lba, blocks) in [(last, 1), (3, 1), (8, 8), (100, 200), (512, 512), (1000, 1)] {
        host.write(lba, vec![0xff; blocks as usize * 512]).unwrap();
        host.unmap(lba, blocks).unwrap();
        assert!(host.read(lba, blocks).unwrap().iter().all(|&byte| byte == 0), "{blocks} at {lba}");
    }
    host.write(16, vec![0xff; 4096]).unwrap();
    host.unmap(18, 1).unwrap();
    let block = host.read(16, 8).unwrap();
    assert!(
        block.chunks(512).enumerate().all(|(at, sector)| sector.iter().all(|&b| b == if at == 2 { 0 } else { 0xff }))
    );
}

#[test]
fn volumes_of_every_kind_and_portals_of_every_family_serve() {
    let stage = Stage::with(|settings| {
        settings.iscsi.portals = vec!["[::]:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    });
    stage.add_pool("a");
    let native = CreateVolume { block_bytes: 4096, cache: false, ..stage.volume("native", &["a"]) };
    stage.handle().create_volume(native).unwrap();
    let portals = stage.handle().node().unwrap().portals;
    let target = stage.handle().volume("native").unwrap().target;
    for (session, address) in [(1, "127.0.0.1"), (2, "::1")] {
        let portal = std::net::SocketAddr::new(address.parse().unwrap(), portals[0].port());
        let Ok(mut host) = Disk::open(&Options { session, ..Options::new(portal, &target) }) else {
            assert!(portal.is_ipv6() && !portals[0].is_ipv6(), "no {portal}");
            continue;
        };
        assert_eq!(host.capacity().block_len, 4096);
        host.write(3, vec![session as u8; 8192]).unwrap();
        assert_eq!(host.read(3, 2).unwrap(), vec![session as u8; 8192]);
        let found = Session::login(&Options::discovery(portal)).unwrap().send_targets().unwrap();
        assert!(format!("{found:?}").contains(address), "{found:?}");
    }
}
