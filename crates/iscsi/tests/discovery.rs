//! Text requests in full feature phase: discovery (RFC 7143 §11.10, Appendix C) and a new segment length.

mod common;

use common::{NONE, Pair, Received, TARGET, pattern, rejected, task_request};
use dyad_iscsi::pdu::{Opcode, RejectReason, TextRequest, TextResponse};
use dyad_iscsi::{DiscoveredTarget, DiscoveryScope, Event, PortalAddress};

fn text_request(pair: &mut Pair, transfer_tag: u32, is_final: bool, is_continued: bool, text: &str) {
    let request = TextRequest {
        immediate: true,
        is_final,
        is_continued,
        lun: 0,
        task_tag: 50,
        transfer_tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
    };
    pair.send(request.emit(), text.as_bytes());
}

fn expect_text(pair: &mut Pair) -> (TextResponse, String) {
    let Received { bhs, data } = pair.expect_pdu(Opcode::TextResponse);
    (TextResponse::parse(&bhs).unwrap(), String::from_utf8(data).unwrap())
}

fn targets(count: usize) -> Vec<DiscoveredTarget> {
    let portal = |text: &str| (PortalAddress { socket: text.parse().unwrap() }, 1);
    let target = |at| DiscoveredTarget {
        name: format!("iqn.2026-11.example.dyad:vm{at}"),
        portals: vec![portal("192.0.2.1:3260"), portal("[2001:db8::1]:3260")],
    };
    (0..count).map(target).collect()
}

#[test]
fn discovery_shows_all_targets() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, true, false, "SendTargets=All\0");
    assert!(matches!(pair.events.pop_front(), Some(Event::Discover(DiscoveryScope::All))));
    pair.connection.discovered(&targets(1));
    let (response, text) = expect_text(&mut pair);
    assert_eq!((response.is_final, response.transfer_tag), (true, NONE));
    let expected = "TargetName=iqn.2026-11.example.dyad:vm0\0\
                    TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0";
    assert_eq!(text, expected);
    // Again, with nothing to show.
    text_request(&mut pair, NONE, true, false, "SendTargets=iqn.nobody\0");
    let event = pair.events.pop_front();
    assert!(matches!(event, Some(Event::Discover(DiscoveryScope::Target(name))) if name == "iqn.nobody"));
    pair.connection.discovered(&[]);
    assert_eq!(expect_text(&mut pair).1, "");
}

#[test]
fn a_long_list_goes_out_in_parts() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, true, false, "SendTargets=All\0");
    pair.events.clear();
    pair.connection.discovered(&targets(100));
    let mut all = String::new();
    loop {
        let (response, text) = expect_text(&mut pair);
        assert!(text.len() <= 512);
        all.push_str(&text);
        if response.is_final {
            break;
        }
        assert!(response.is_continued);
        text_request(&mut pair, response.transfer_tag, true, false, "");
    }
    assert_eq!(all.matches("TargetName=").count(), 100);
    assert!(all.ends_with("TargetAddress=[2001:db8::1]:3260,1\0"));
}

#[test]
fn a_long_request_comes_in_parts() {
    let mut pair = Pair::discovering();
    text_request(&mut pair, NONE, false, true, "SendTar");
    let (response, text) = expect_text(&mut pair);
    assert_eq!((response.is_final, text.as_str()), (false, ""));
    text_request(&mut pair, response.transfer_tag, true, false, "gets=All\0");
    assert!(matches!(pair.events.pop_front(), Some(Event::Discover(DiscoveryScope::All))));
    // One that never ends is cut off.
    let mut pair = Pair::discovering();
    let mut tag = NONE;
    let part = "X-key=1\0".repeat(1000);
    for _ in 0..20 {
        text_request(&mut pair, tag, false, true, &part);
        let received = pair.receive_one().unwrap();
        if received.bhs.opcode() == Some(Opcode::Reject) {
            return;
        }
        tag = TextResponse::parse(&received.bhs).unwrap().transfer_tag;
    }
    panic!("text without end was taken");
}

#[test]
fn a_normal_session_sees_only_its_own_target() {
    let mut pair = Pair::logged_in();
    for own in ["", TARGET] {
        text_request(&mut pair, NONE, true, false, &format!("SendTargets={own}\0"));
        let event = pair.events.pop_front();
        assert!(matches!(event, Some(Event::Discover(DiscoveryScope::Target(name))) if name == TARGET));
        pair.connection.discovered(&targets(1));
        assert!(expect_text(&mut pair).1.starts_with("TargetName="));
    }
    for other in ["All", "iqn.other"] {
        text_request(&mut pair, NONE, true, false, &format!("SendTargets={other}\0"));
        assert_eq!(expect_text(&mut pair).1, "SendTargets=Reject\0");
    }
    assert!(pair.events.is_empty());
}

#[test]
fn the_segment_length_may_change_in_full_feature_phase() {
    let mut pair = Pair::logged_in();
    text_request(&mut pair, NONE, true, false, "MaxRecvDataSegmentLength=512\0MaxBurstLength=512\0X-a=1\0");
    assert_eq!(expect_text(&mut pair).1, "MaxBurstLength=Reject\0X-a=NotUnderstood\0");
    let task = pair.read(1024).task;
    pair.respond_good(task, &pattern(1024));
    assert_eq!(pair.receive_all().len(), 2);
}

#[test]
fn text_that_makes_no_sense_is_rejected() {
    let mut pair = Pair::logged_in();
    text_request(&mut pair, NONE, true, false, "nonsense\0");
    rejected(&mut pair, RejectReason::Protocol);
    text_request(&mut pair, 1234, true, false, "");
    rejected(&mut pair, RejectReason::InvalidField);
    text_request(&mut pair, NONE, true, true, "A=b\0");
    rejected(&mut pair, RejectReason::Protocol);
}

#[test]
fn a_discovery_session_takes_no_commands() {
    let mut pair = Pair::discovering();
    let command = pair.command(true, false, 512);
    pair.send(command.emit(), &[]);
    rejected(&mut pair, RejectReason::NotSupported);
    pair.send(task_request(&pair, 5, NONE).emit(), &[]);
    rejected(&mut pair, RejectReason::NotSupported);
    assert!(pair.events.is_empty());
}
