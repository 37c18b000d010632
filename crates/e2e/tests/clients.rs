//! Real initiators against the real binary: qemu, libiscsi, fio, and our own.

use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Credentials, Digests, LoginError, Options, Session, SessionError};
use dyad_bench::verify::{Mix, SECTOR, Writer};
use dyad_e2e::process::finish;
use dyad_e2e::{Lab, Target as _, Unit, Volume, scenario, tools};
use serde_json::json;

const POOLS: [&str; 2] = ["a", "b"];
const SHORT: Duration = Duration::from_secs(30);

fn mirrored(mib: u64) -> (Lab, Unit) {
    let lab = Lab::with_pools(&POOLS, 2 * mib + 192).unwrap();
    let unit = lab.create_volume(&Volume::new("v", mib, &POOLS)).unwrap();
    (lab, unit)
}

fn refusal(options: &Options) -> Option<(u8, u8)> {
    match Session::login(options) {
        Err(SessionError::Login(LoginError::Refused { class, detail })) => Some((class, detail)),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn an_image_copied_with_qemu_img_comes_back_as_it_was() {
    if tools::has(&["qemu-img"]) {
        let (lab, unit) = mirrored(128);
        scenario::qemu_img_round_trip(&unit, lab.dir(), 128).unwrap();
    }
}

#[test]
fn an_image_copied_with_qemu_img_is_there_after_a_graceful_restart_on_each_image_alone() {
    if !tools::has(&["qemu-img"]) {
        return;
    }
    let (mut lab, unit) = mirrored(32);
    scenario::qemu_img_round_trip(&unit, lab.dir(), 32).unwrap();
    lab.stop().unwrap();
    lab.start().unwrap();
    let (raw, url) = (lab.path("image.raw"), lab.unit("v").unwrap().url());
    let args = ["compare", "-f", "raw", "-F", "raw", &*raw.to_string_lossy(), &url];
    finish("qemu-img", &args, SHORT).unwrap().expect_success("compare after the restart").unwrap();
    lab.with_each_alone(&POOLS, |lab, pool| {
        let url = lab.unit("v")?.url();
        let args = ["compare", "-f", "raw", "-F", "raw", &*raw.to_string_lossy(), &url];
        finish("qemu-img", &args, SHORT)?.expect_success(&format!("compare with the image in pool {pool}"))?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn fio_verifies_what_it_wrote_through_qemu_storage_daemon() {
    if tools::has(&["fio", "qemu-storage-daemon"]) {
        let (lab, unit) = mirrored(128);
        scenario::fio_verify(&unit, lab.dir(), 128, 240).unwrap();
    }
}

#[test]
fn the_verifying_writer_finds_nothing_wrong_with_512_byte_and_with_4096_byte_blocks() {
    let lab = Lab::with_pools(&POOLS, 512).unwrap();
    for block_bytes in [512, 4096] {
        let name = format!("v{block_bytes}");
        let volume = Volume { more: json!({ "block_bytes": block_bytes }), ..Volume::new(&name, 48, &POOLS) };
        let unit = lab.create_volume(&volume).unwrap();
        let digests = Digests { header: block_bytes == 4096, data: true };
        let disk = Disk::open(&Options { digests, ..unit.options() }).unwrap();
        assert_eq!((disk.capacity().block_len, disk.capacity().bytes()), (block_bytes, 48 << 20));
        assert!(disk.capacity().thin);
        let mut writer = Writer::new(3, (48 << 20) / SECTOR as u64, block_bytes, 32, Mix::default());
        let mut session = disk.into_session();
        writer.run(&mut session, Instant::now() + Duration::from_secs(4)).unwrap();
        let report = writer.check(&mut session).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(writer.tally().refused, 0, "{:?}", writer.first_refusal());
        session.logout().unwrap();
    }
}

#[test]
fn data_goes_by_every_combination_of_immediate_and_solicited_data() {
    let (_lab, unit) = mirrored(16);
    for (immediate_data, initial_r2t) in [(true, false), (true, true), (false, false), (false, true)] {
        let options = Options {
            immediate_data,
            initial_r2t,
            first_burst: 16_384,
            max_burst: 65_536,
            max_outstanding_r2t: 4,
            digests: Digests { header: true, data: true },
            ..unit.options()
        };
        let mut disk = Disk::open(&options).unwrap();
        let data: Vec<u8> = (0..4 << 20).map(|at: u32| (at / 509) as u8).collect();
        disk.write(8, data.clone()).unwrap();
        assert!(disk.read(8, (data.len() / SECTOR) as u32).unwrap() == data, "{immediate_data} {initial_r2t}");
        assert_eq!(disk.session().ping(&[9; 100]).unwrap(), [9; 100]);
        disk.logout().unwrap();
    }
}

#[test]
fn libiscsi_lists_the_target_and_its_size() {
    if !tools::has(&["iscsi-ls"]) {
        return;
    }
    let (lab, unit) = mirrored(32);
    let url = format!("iscsi://{}/", lab.portal());
    let listed = finish("iscsi-ls", &["-s", &url], SHORT).unwrap().expect_success("iscsi-ls").unwrap();
    assert!(listed.output.contains(unit.iqn()), "{}", listed.output);
    assert!(listed.output.contains("DIRECT_ACCESS"), "{}", listed.output);
}

#[test]
fn chap_lets_in_who_knows_the_secret_and_proves_the_target_to_who_asks() {
    let lab = Lab::with_pools(&["a"], 256).unwrap();
    let access = json!({ "access": {
        "chap": { "user": "host", "secret": "correct horse b" },
        "mutual_chap": { "user": "target", "secret": "battery staple9" },
    }});
    let unit = lab.create_volume(&Volume { more: access, ..Volume::new("v", 16, &["a"]) }).unwrap();
    let credentials = |user: &str, secret: &str| Credentials { user: user.into(), secret: secret.into() };
    let chap = Some(credentials("host", "correct horse b"));

    let one_way = Options { chap: chap.clone(), ..unit.options() };
    Disk::open(&one_way).unwrap().logout().unwrap();
    let mutual = Options { mutual: Some(credentials("target", "battery staple9")), ..one_way.clone() };
    Disk::open(&mutual).unwrap().logout().unwrap();

    let impostor = Options { mutual: Some(credentials("target", "something else1")), ..one_way.clone() };
    assert!(matches!(Session::login(&impostor), Err(SessionError::Login(LoginError::TargetNotAuthentic))));
    // RFC 7143 §11.13.5: 02/01 is "authentication failure".
    assert_eq!(refusal(&unit.options()), Some((2, 1)), "no proof at all");
    let wrong = Options { chap: Some(credentials("host", "wrong horse 123")), ..unit.options() };
    assert_eq!(refusal(&wrong), Some((2, 1)));
    let stranger = Options { chap: Some(credentials("nobody", "correct horse b")), ..unit.options() };
    assert_eq!(refusal(&stranger), Some((2, 1)));
}

#[test]
fn chap_works_with_libiscsi() {
    if !tools::has(&["iscsi-inq"]) {
        return;
    }
    let lab = Lab::with_pools(&["a"], 256).unwrap();
    let access = json!({ "access": {
        "chap": { "user": "host", "secret": "correct-horse-b" },
        "mutual_chap": { "user": "target", "secret": "battery-staple9" },
    }});
    let unit = lab.create_volume(&Volume { more: access, ..Volume::new("v", 16, &["a"]) }).unwrap();
    let inquire = |url: &str| finish("iscsi-inq", &[url], SHORT).unwrap();
    let good = unit.url_with("host", "correct-horse-b");
    inquire(&good).expect_success("one-way CHAP").unwrap();
    let mutual = format!("{good}?target_user=target&target_password=battery-staple9");
    inquire(&mutual).expect_success("mutual CHAP").unwrap();
    assert!(!inquire(&unit.url_with("host", "wrong-horse-123")).is_success());
    assert!(!inquire(&unit.url()).is_success());
}

#[test]
fn a_target_that_does_not_exist_is_refused_as_not_found() {
    let (_lab, unit) = mirrored(16);
    let options = Options { target: Some(format!("{}-not", unit.iqn())), ..unit.options() };
    // RFC 7143 §11.13.5: 02/03 is "not found".
    assert_eq!(refusal(&options), Some((2, 3)));
}

#[test]
fn a_second_login_of_the_same_initiator_and_isid_takes_the_sessions_place() {
    let (_lab, unit) = mirrored(16);
    let mut first = Disk::open(&unit.options()).unwrap();
    let mut second = Disk::open(&unit.options()).unwrap();
    second.write(0, vec![1; 4096]).unwrap();
    assert!(first.read(0, 8).is_err(), "the reinstated session is closed (RFC 7143 §6.3.5)");
    second.logout().unwrap();
}

#[test]
fn out_of_range_and_unknown_commands_get_exact_sense_and_the_session_goes_on() {
    use dyad_bench::initiator::{Transfer, cdb};
    let (_lab, unit) = mirrored(16);
    let mut disk = Disk::open(&unit.options()).unwrap();
    let blocks = disk.capacity().blocks;
    let mut sense = |command, transfer| disk.session().call(command, transfer).unwrap().sense_codes();
    assert_eq!(sense(cdb::read(blocks, 1), Transfer::In(vec![0; 512])), Some((5, 0x21, 0)));
    assert_eq!(sense(cdb::read_16(u64::MAX, u32::MAX), Transfer::In(vec![0; 512])), Some((5, 0x21, 0)));
    assert_eq!(sense(cdb::write_16(blocks - 1, 2), Transfer::Out(vec![0; 1024])), Some((5, 0x21, 0)));
    let mut unknown = cdb::test_unit_ready();
    unknown[0] = 0xff;
    assert_eq!(sense(unknown, Transfer::None), Some((5, 0x20, 0)));
    disk.read(blocks - 1, 1).unwrap();
    disk.logout().unwrap();
}
