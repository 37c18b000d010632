//! Logins, from the first byte to full feature phase or to a plain refusal.

mod common;

use common::{INITIATOR, Pair, TARGET};
use dyad_iscsi::pdu::{LoginResponse, NopOut, Stage};
use dyad_iscsi::{
    Auth, ChapAuth, ChapSecret, CloseReason, DigestPolicy, Event, LoginRefusal, PortalAddress, SessionKind, Settings,
    proof_for_initiator,
};
use dyad_units::Period;

const SECURITY: Stage = Stage::Security;
const OPERATIONAL: Stage = Stage::Operational;
const FULL: Option<Stage> = Some(Stage::FullFeature);

fn names() -> [String; 2] {
    [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")]
}

fn step(pair: &mut Pair, stage: Stage, next: Option<Stage>, text: &[&str]) -> (LoginResponse, String) {
    let received = pair.login_step(stage, next, text).expect("every login request is answered");
    let response = LoginResponse::parse(&received.bhs).unwrap();
    (response, String::from_utf8(received.data).unwrap().replace('\0', " ").trim().to_owned())
}

fn refused(pair: &mut Pair, text: &[&str]) -> [u8; 2] {
    let (response, _) = step(pair, OPERATIONAL, FULL, text);
    assert_eq!(response.transit, None);
    assert!(matches!(pair.events.back(), Some(Event::Closed(CloseReason::LoginRefused(_)))));
    assert!(pair.connection.is_finished());
    response.status
}

#[test]
fn one_request_is_enough_for_a_host_that_needs_no_proof() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    let (response, text) = step(&mut pair, OPERATIONAL, FULL, &[&initiator, &target, "InitialR2T=No"]);
    assert_eq!((response.status, response.transit, response.tsih), ([0, 0], FULL, 7));
    assert_eq!(text, "TargetPortalGroupTag=1 InitialR2T=No MaxRecvDataSegmentLength=262144");
    assert_eq!(response.numbers.exp_cmd_sn, pair.cmd_sn);
    assert_eq!(response.numbers.max_cmd_sn, pair.cmd_sn + 127);
    assert_eq!(pair.connection.session_key().unwrap().target.as_deref(), Some(TARGET));
}

#[test]
fn a_login_may_break_at_every_byte() {
    for cut in [1, 2, 3, 47, 48, 49, 50] {
        let mut pair = Pair::new(Settings::default());
        pair.cut = cut;
        let [initiator, target] = names();
        let (response, _) = step(&mut pair, OPERATIONAL, FULL, &[&initiator, &target]);
        assert_eq!(response.status, [0, 0]);
    }
}

#[test]
fn security_then_operational_negotiation_then_full_feature() {
    let mut pair = Pair::new(Settings::default());
    pair.admission.alias = Some("vm one".to_owned());
    let [initiator, target] = names();
    let first = [initiator.as_str(), &target, "AuthMethod=CHAP,None"];
    let (response, text) = step(&mut pair, SECURITY, Some(OPERATIONAL), &first);
    assert_eq!(response.transit, Some(OPERATIONAL));
    assert_eq!(text, "AuthMethod=None TargetPortalGroupTag=1 TargetAlias=vm one");
    let (response, text) = step(&mut pair, OPERATIONAL, None, &["HeaderDigest=None", "X-com.example.key=5"]);
    assert_eq!((response.transit, response.tsih), (None, 0));
    assert_eq!(text, "HeaderDigest=None X-com.example.key=NotUnderstood MaxRecvDataSegmentLength=262144");
    let (response, text) = step(&mut pair, OPERATIONAL, FULL, &[]);
    assert_eq!((response.transit, response.tsih, text.as_str()), (FULL, 7, ""));
    assert_eq!(response.numbers.stat_sn, 2);
}

#[test]
fn text_may_go_on_in_a_second_request() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    let text = format!("{initiator}\0{target}\0");
    let (first, second) = text.as_bytes().split_at(20);
    let mut header = pair.login_header(OPERATIONAL, None);
    header.is_continued = true;
    pair.send(header.emit(), first);
    let response = pair.receive_one().unwrap();
    assert!(response.data.is_empty());
    assert!(pair.events.is_empty());
    pair.send(pair.login_header(OPERATIONAL, FULL).emit(), second);
    pair.play_node_at_login();
    let response = LoginResponse::parse(&pair.receive_one().unwrap().bhs).unwrap();
    assert_eq!((response.status, response.transit), ([0, 0], FULL));
}

#[test]
fn what_the_node_is_asked_is_what_the_host_said() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    let text = [initiator.as_str(), &target, "InitiatorAlias=web 1"].join("\0");
    pair.send(pair.login_header(OPERATIONAL, FULL).emit(), text.as_bytes());
    let Some(Event::Login(request)) = pair.events.pop_front() else { panic!("no login asked") };
    assert_eq!(request.initiator, INITIATOR);
    assert_eq!(request.initiator_alias.as_deref(), Some("web 1"));
    assert_eq!(request.kind, SessionKind::Normal { target: TARGET.to_owned() });
    assert!(!pair.connection.wants_input(), "nothing is read while the node decides");
    pair.connection.refuse(LoginRefusal::TargetNotFound);
    let response = LoginResponse::parse(&pair.receive_one().unwrap().bhs).unwrap();
    assert_eq!(response.status, [2, 3]);
}

#[test]
fn a_refusal_before_the_start_leaves_no_session() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    let text = [initiator, target].join("\0");
    pair.send(pair.login_header(OPERATIONAL, FULL).emit(), text.as_bytes());
    pair.events.clear();
    pair.connection.admit(pair.admission.clone());
    pair.pump();
    let Some(Event::SessionReady(key)) = pair.events.pop_front() else { panic!("not ready") };
    assert_eq!((key.portal_group, key.isid), (1, [0x40, 0, 0, 1, 2, 3]));
    pair.connection.refuse(LoginRefusal::OutOfResources);
    let response = LoginResponse::parse(&pair.receive_one().unwrap().bhs).unwrap();
    assert_eq!(response.status, [3, 2]);
    assert!(pair.connection.session_key().is_none());
}

#[test]
fn a_redirect_carries_the_address() {
    for (socket, expected) in [("192.0.2.1:3260", "192.0.2.1:3260"), ("[2001:db8::1]:860", "[2001:db8::1]:860")] {
        let mut pair = Pair::new(Settings::default());
        let [initiator, target] = names();
        let text = [initiator, target].join("\0");
        pair.send(pair.login_header(OPERATIONAL, FULL).emit(), text.as_bytes());
        let address = PortalAddress { socket: socket.parse().unwrap() };
        pair.connection.refuse(LoginRefusal::MovedTemporarily(address));
        let received = pair.receive_one().unwrap();
        assert_eq!(LoginResponse::parse(&received.bhs).unwrap().status, [1, 1]);
        assert_eq!(received.data, format!("TargetAddress={expected}\0").as_bytes());
    }
}

#[test]
fn every_senseless_login_is_refused_with_its_status() {
    let [initiator, target] = names();
    let (i, t) = (initiator.as_str(), target.as_str());
    let long = format!("InitiatorName={}", "x".repeat(224));
    let table: &[(&[&str], [u8; 2])] = &[
        (&[t], [2, 7]),
        (&[i], [2, 7]),
        (&[i, "SessionType=Other"], [2, 9]),
        (&[i, t, "SessionType=Normal", "SessionType=Normal"], [2, 0]),
        (&[i, t, "InitialR2T=No", "InitialR2T=No"], [2, 0]),
        (&["InitiatorName=with blank", t], [2, 0]),
        (&["InitiatorName=", t], [2, 0]),
        (&[&long, t], [2, 0]),
        (&[i, t, "nonsense"], [2, 0]),
        (&[i, t, "MaxRecvDataSegmentLength=1"], [2, 0]),
    ];
    for (text, status) in table {
        assert_eq!(refused(&mut Pair::new(Settings::default()), text), *status, "{text:?}");
    }
    let many: Vec<String> = (0..40).map(|at| format!("X-unknown{at}=1")).collect();
    let mut text = vec![i, t];
    text.extend(many.iter().map(String::as_str));
    assert_eq!(refused(&mut Pair::new(Settings::default()), &text), [2, 0]);
}

#[test]
fn impossible_headers_are_refused() {
    let [initiator, target] = names();
    let text = [initiator, target].join("\0");
    let status = |change: &dyn Fn(&mut dyad_iscsi::pdu::LoginRequest)| {
        let mut pair = Pair::new(Settings::default());
        let mut header = pair.login_header(OPERATIONAL, FULL);
        change(&mut header);
        pair.send(header.emit(), text.as_bytes());
        pair.play_node_at_login();
        LoginResponse::parse(&pair.receive_one().unwrap().bhs).unwrap().status
    };
    assert_eq!(status(&|header| header.version_min = 1), [2, 5]);
    assert_eq!(status(&|header| header.tsih = 9), [2, 10]);
    assert_eq!(status(&|header| header.is_continued = true), [2, 0]);
    assert_eq!(status(&|header| header.transit = Some(OPERATIONAL)), [2, 0]);
    assert_eq!(status(&|header| header.stage = Stage::FullFeature), [2, 0]);
}

#[test]
fn a_stage_that_was_left_does_not_come_back() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    step(&mut pair, OPERATIONAL, None, &[&initiator, &target]);
    let (response, _) = step(&mut pair, SECURITY, Some(OPERATIONAL), &["AuthMethod=None"]);
    assert_eq!(response.status, [2, 11]);
}

#[test]
fn something_else_than_a_login_closes_without_an_answer() {
    let mut pair = Pair::new(Settings::default());
    let ping = NopOut { immediate: true, lun: 0, task_tag: 1, transfer_tag: u32::MAX, cmd_sn: 0, exp_stat_sn: 0 };
    pair.send(ping.emit(), &[]);
    assert!(pair.receive_one().is_none());
    assert!(matches!(pair.events.pop_front(), Some(Event::Closed(CloseReason::Protocol(_)))));
    let mut pair = Pair::new(Settings::default());
    pair.send_bytes(&[b"GET / HTTP/1.1\r\nHost: example\r\n\r\n".as_slice(), &[0; 48]].concat());
    assert!(matches!(pair.events.pop_front(), Some(Event::Closed(CloseReason::Protocol(_)))));
}

#[test]
fn a_segment_of_more_than_8192_bytes_is_refused_before_it_is_read() {
    let mut pair = Pair::new(Settings::default());
    let mut header = pair.login_header(OPERATIONAL, FULL).emit();
    header.set_data_len(8193);
    pair.send_bytes(header.as_bytes());
    let response = LoginResponse::parse(&pair.receive_one().unwrap().bhs).unwrap();
    assert_eq!(response.status, [2, 0]);
    assert!(pair.connection.is_finished());
}

#[test]
fn a_login_that_takes_too_long_is_dropped() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    step(&mut pair, OPERATIONAL, None, &[&initiator, &target]);
    pair.pass(Period::from_secs(14));
    assert!(pair.events.is_empty());
    pair.pass(Period::from_secs(2));
    assert!(matches!(pair.events.pop_front(), Some(Event::Closed(CloseReason::LoginTimeout))));
    assert!(pair.connection.is_finished());
    assert_eq!(pair.connection.next_deadline(), None);
}

#[test]
fn a_login_takes_a_bounded_number_of_requests() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    step(&mut pair, OPERATIONAL, None, &[&initiator, &target]);
    let last = (0..40).map(|_| step(&mut pair, OPERATIONAL, None, &[]).0.status).find(|status| *status != [0, 0]);
    assert_eq!(last, Some([2, 0]));
}

#[test]
fn required_digests_are_insisted_on() {
    let settings = Settings { header_digest: DigestPolicy::Required, ..Settings::default() };
    let [initiator, target] = names();
    let text = [initiator.as_str(), &target];
    assert_eq!(refused(&mut Pair::new(settings.clone()), &text), [2, 0]);
    let mut pair = Pair::new(settings);
    let (response, text) = step(&mut pair, OPERATIONAL, FULL, &[&initiator, &target, "HeaderDigest=None,CRC32C"]);
    assert_eq!(response.status, [0, 0]);
    assert!(text.contains("HeaderDigest=CRC32C"));
}

fn with_chap(target: Option<&str>) -> Pair {
    let secret = |name: &str, secret: &str| ChapSecret { name: name.to_owned(), secret: secret.as_bytes().to_vec() };
    let mut pair = Pair::new(Settings::default());
    pair.admission.auth = Auth::Chap(Box::new(ChapAuth {
        initiator: secret("host1", "secret of the host"),
        target: target.map(|target| secret("dyad", target)),
        random: [7; 17],
    }));
    pair
}

fn challenge(pair: &mut Pair) {
    let [initiator, target] = names();
    let (response, text) = step(pair, SECURITY, Some(OPERATIONAL), &[&initiator, &target, "AuthMethod=CHAP,None"]);
    assert_eq!((response.status, response.transit), ([0, 0], None));
    assert_eq!(text, "AuthMethod=CHAP TargetPortalGroupTag=1");
    let (_, text) = step(pair, SECURITY, None, &["CHAP_A=7,5"]);
    assert_eq!(text, format!("CHAP_A=7 CHAP_I=7 CHAP_C=0x{}", "07".repeat(16)));
}

fn proof(secret: &str) -> String {
    format!("CHAP_R={}", proof_for_initiator(7, 7, secret.as_bytes(), &[7; 16]))
}

#[test]
fn chap_lets_the_right_host_in() {
    let mut pair = with_chap(None);
    challenge(&mut pair);
    let proof = proof("secret of the host");
    let (response, _) = step(&mut pair, SECURITY, Some(OPERATIONAL), &["CHAP_N=host1", &proof]);
    assert_eq!((response.status, response.transit), ([0, 0], Some(OPERATIONAL)));
    let (response, _) = step(&mut pair, OPERATIONAL, FULL, &["HeaderDigest=None"]);
    assert_eq!((response.status, response.transit), ([0, 0], FULL));
}

#[test]
fn chap_keeps_the_wrong_host_out() {
    for (name, secret) in [("host1", "another secret"), ("host2", "secret of the host"), ("host1", "")] {
        let mut pair = with_chap(None);
        challenge(&mut pair);
        let name = format!("CHAP_N={name}");
        let (response, text) = step(&mut pair, SECURITY, Some(OPERATIONAL), &[&name, &proof(secret)]);
        assert_eq!((response.status, text.as_str()), ([2, 1], ""));
        let closed = CloseReason::LoginRefused(LoginRefusal::AuthenticationFailed);
        assert!(matches!(pair.events.pop_front(), Some(Event::Closed(reason)) if reason == closed));
    }
}

#[test]
fn the_target_proves_itself_too_when_asked() {
    let mut pair = with_chap(Some("secret of dyad"));
    challenge(&mut pair);
    let proof = proof("secret of the host");
    let asked = ["CHAP_N=host1", &proof, "CHAP_I=1", "CHAP_C=0x0102030405060708"];
    let (response, text) = step(&mut pair, SECURITY, Some(OPERATIONAL), &asked);
    assert_eq!(response.transit, Some(OPERATIONAL));
    let expected = proof_for_initiator(7, 1, b"secret of dyad", &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(text, format!("CHAP_N=dyad CHAP_R={expected}"));
}

#[test]
fn the_challenge_reflected_is_refused() {
    let mut pair = with_chap(Some("secret of dyad"));
    challenge(&mut pair);
    let reflected = format!("CHAP_C=0x{}", "07".repeat(16));
    let proof = proof("secret of the host");
    let (response, text) =
        step(&mut pair, SECURITY, Some(OPERATIONAL), &["CHAP_N=host1", &proof, "CHAP_I=1", &reflected]);
    assert_eq!((response.status, text.as_str()), ([2, 1], ""));
}

#[test]
fn nobody_gets_around_chap() {
    let [initiator, target] = names();
    let names = [initiator.as_str(), &target];
    // Straight to operational negotiation.
    assert_eq!(refused(&mut with_chap(None), &names), [2, 1]);
    // No method, or only None, and on.
    let (response, _) = step(&mut with_chap(None), SECURITY, Some(OPERATIONAL), &names);
    assert_eq!(response.status, [2, 1]);
    let only_none = [initiator.as_str(), &target, "AuthMethod=None"];
    let (response, _) = step(&mut with_chap(None), SECURITY, FULL, &only_none);
    assert_eq!(response.status, [2, 1]);
    // Out of the middle.
    let mut pair = with_chap(None);
    challenge(&mut pair);
    let (response, _) = step(&mut pair, OPERATIONAL, FULL, &[]);
    assert_eq!(response.status, [2, 11]);
    // Without the proof.
    let mut pair = with_chap(None);
    challenge(&mut pair);
    let (response, _) = step(&mut pair, SECURITY, Some(OPERATIONAL), &["CHAP_N=host1"]);
    assert_eq!(response.status, [2, 1]);
}

#[test]
fn a_host_that_insists_on_chap_is_not_let_in_without() {
    let mut pair = Pair::new(Settings::default());
    let [initiator, target] = names();
    let (response, _) = step(&mut pair, SECURITY, Some(OPERATIONAL), &[&initiator, &target, "AuthMethod=CHAP"]);
    assert_eq!(response.status, [2, 1]);
}
