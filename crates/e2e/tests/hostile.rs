//! Hosts that break, flood or never read: bounded memory, other sessions undisturbed, the process lives.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::flood::{DEPTHS, Flood};
use dyad_bench::hold::Held;
use dyad_bench::initiator::pdu::{Header, opcode};
use dyad_bench::initiator::{Options, Transfer, cdb};
use dyad_bench::random::Random;
use dyad_e2e::{Lab, Target as _, Unit, Volume, procfs, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: u64 = 1 << 20;

fn served(more: &str) -> (Lab, Unit) {
    let mut lab = Lab::new(more).unwrap();
    lab.start().unwrap();
    lab.create_pool("a", 256).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 64, &["a"])).unwrap();
    (lab, unit)
}

/// As many file descriptors as this process may have.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Who was undisturbed: a session that existed before still answers.
fn assert_serves(disk: &mut Disk) {
    disk.write(64, vec![3; 4096]).unwrap();
    assert_eq!(disk.read(64, 8).unwrap(), vec![3; 4096]);
}

#[test]
fn ten_thousand_half_open_logins_cost_little_memory_and_delay_nobody_by_a_second() {
    let wanted = 10_000;
    let count = wanted.min(raise_descriptors().saturating_sub(200)) as u32;
    if u64::from(count) < wanted {
        println!("skipped: only {count} of {wanted} half-open logins, for want of file descriptors");
    }
    let (_lab, unit) = served("");
    let mut existing = Disk::open(&unit.options()).unwrap();
    let resident = || procfs::resident(unit.pid()).unwrap();
    let before = resident();

    let flood = Flood::open(unit.portal(), count, &DEPTHS).unwrap();
    assert_eq!(flood.len() as u32, count, "{} refused", flood.refused());
    for session in 1..4 {
        let begin = Instant::now();
        let options = Options { session, ..unit.options() };
        Disk::open(&options).unwrap().logout().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "a genuine login took {:?}", begin.elapsed());
    }
    assert_serves(&mut existing);
    let grown = resident().saturating_sub(before);
    assert!(grown <= 64 * MIB, "{} MiB more for {count} half-open logins", grown / MIB);
    drop(flood);
    assert_serves(&mut existing);
}

#[test]
fn random_bytes_on_the_port_harm_nobody() {
    let (mut lab, unit) = served("");
    let mut existing = Disk::open(&unit.options()).unwrap();
    let mut random = Random::new(5);
    for round in 0..300 {
        let mut socket = TcpStream::connect(unit.portal()).unwrap();
        let mut bytes: Vec<u8> = (0..random.below(4096)).map(|_| random.bits() as u8).collect();
        if round % 2 == 0 && bytes.len() >= 48 {
            // Half of them look like a login request at first sight.
            bytes[..2].copy_from_slice(&[opcode::LOGIN | opcode::IMMEDIATE, 0x87]);
            bytes[4..8].copy_from_slice(&[0, 0, 0, 64]);
        }
        // The node may close before all is sent.
        let _ = socket.write_all(&bytes);
    }
    assert!(lab.process().unwrap().is_alive());
    assert_serves(&mut existing);
}

#[test]
fn random_pdus_after_a_login_end_at_most_that_session() {
    let (mut lab, unit) = served("");
    let mut existing = Disk::open(&unit.options()).unwrap();
    let mut random = Random::new(6);
    for session in 1..200 {
        let mut victim = Disk::open(&Options { session, ..unit.options() }).unwrap();
        for _ in 0..1 + random.below(4) {
            let mut header = Header([0; 48]);
            header.0.iter_mut().for_each(|byte| *byte = random.bits() as u8);
            if random.percent(70) {
                // A known opcode with small lengths goes deeper than noise.
                let opcodes = [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x03];
                header.0[0] = opcodes[random.below(8) as usize] | if random.percent(50) { 0x40 } else { 0 };
                header.0[4] = 0;
            }
            let len = random.below(600) as usize;
            let data: Vec<u8> = (0..len).map(|_| random.bits() as u8).collect();
            let _ = victim.session().stream().push(header, &data);
            let _ = victim.session().stream().flush();
        }
    }
    assert!(lab.process().unwrap().is_alive(), "{}", lab.log());
    assert_serves(&mut existing);
    Disk::open(&Options { session: 9999, ..unit.options() }).unwrap().logout().unwrap();
}

#[test]
fn a_host_that_never_reads_is_dropped_in_bounded_time_and_memory() {
    let (lab, unit) = served("iscsi.nop_interval = \"1 s\"\niscsi.nop_timeout = \"2 s\"");
    let mut existing = Disk::open(&unit.options()).unwrap();
    // Written blocks, so that each read carries data.
    for at in 0..32 {
        existing.write(at * 2048, vec![at as u8 + 1; 1 << 20]).unwrap();
    }
    let before = procfs::resident(unit.pid()).unwrap();
    let mut deaf: Vec<_> = (1..9).map(|session| Disk::open(&Options { session, ..unit.options() }).unwrap()).collect();
    for disk in &mut deaf {
        for user in 0..32 {
            disk.session().submit(user, cdb::read(user * 2048, 2048), Transfer::In(vec![0; 1 << 20])).unwrap();
        }
        disk.session().stream().flush().unwrap();
    }
    let begin = Instant::now();
    assert_serves(&mut existing);
    assert!(begin.elapsed() < Duration::from_secs(2), "a deaf host delayed another by {:?}", begin.elapsed());
    let admin = lab.admin();
    wait::until("the deaf hosts are dropped", Duration::from_secs(20), || {
        assert_serves(&mut existing);
        let sessions = admin.get("/v1/sessions").ok()?;
        (sessions["items"].as_array()?.len() <= 1).then_some(())
    })
    .unwrap();
    let grown = procfs::resident_peak(unit.pid()).unwrap().saturating_sub(before);
    assert!(grown < 300 * MIB, "{} MiB more for eight deaf hosts", grown / MIB);
    assert_serves(&mut existing);
}

#[test]
fn an_idle_host_that_answers_pings_stays_and_one_that_is_gone_is_dropped() {
    let (lab, unit) = served("iscsi.nop_interval = \"1 s\"\niscsi.nop_timeout = \"1 s\"");
    let held = Held::open(&Options { session: 100, ..unit.options() }, 4).unwrap();
    // Connected, but nobody answers its pings.
    let _gone = Disk::open(&Options { session: 7, ..unit.options() }).unwrap();
    let admin = lab.admin();
    let count = || Some(admin.get("/v1/sessions").ok()?["items"].as_array()?.len());
    assert_eq!(count(), Some(5));
    wait::until("the dead peer is dropped", Duration::from_secs(10), || (count()? == 4).then_some(())).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((held.alive(), count()), (4, Some(4)));
}
