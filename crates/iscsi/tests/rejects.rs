//! Every way in which a PDU of full feature phase can be wrong, and the reason that it is rejected with (RFC 7143 §11.17.1).

mod common;

use common::{NONE, Pair, ping, task_request};
use dyad_iscsi::Settings;
use dyad_iscsi::pdu::{
    Bhs, LogoutRequest, NopIn, Opcode, Reject, RejectReason, Snack, Stage, TextRequest, TextResponse,
};

/// A host's mistake: what is wrong, and the bytes.
type Mistake = (&'static str, fn(&mut Pair) -> Vec<u8>, RejectReason, Then);

/// What becomes of the session: ErrorRecoveryLevel 0 goes on only where it is known what was not received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    GoesOn,
    Ends,
}

fn text(pair: &Pair, transfer_tag: u32, is_final: bool, is_continued: bool, keys: &str) -> Vec<u8> {
    let request = TextRequest {
        immediate: true,
        is_final,
        is_continued,
        lun: 0,
        task_tag: 900,
        transfer_tag,
        cmd_sn: pair.cmd_sn,
        exp_stat_sn: 0,
    };
    pair.encode(request.emit(), keys.as_bytes())
}

/// The next part of a text that goes on, under the tag that the target gave it.
fn next_text(pair: &mut Pair, keys: &str) -> Vec<u8> {
    let answer = TextResponse::parse(&pair.expect_pdu(Opcode::TextResponse).bhs).unwrap();
    text(pair, answer.transfer_tag, false, true, keys)
}

fn logout(pair: &Pair, reason: u8, task_tag: u32) -> Vec<u8> {
    let request = LogoutRequest { immediate: true, reason, task_tag, cid: 1, cmd_sn: pair.cmd_sn, exp_stat_sn: 0 };
    pair.encode(request.emit(), &[])
}

/// A command changed as is said.
fn command(pair: &mut Pair, change: fn(&mut Bhs)) -> Vec<u8> {
    let mut bhs = pair.command(true, false, 512).emit();
    change(&mut bhs);
    pair.encode(bhs, &[])
}

fn byte(bhs: &mut Bhs, at: usize, value: u8) {
    let mut bytes = *bhs.as_bytes();
    bytes[at] = value;
    *bhs = Bhs::from_bytes(bytes);
}

fn in_flight(pair: &mut Pair) -> u32 {
    pair.read(512);
    pair.next_tag - 1
}

const MISTAKES: [Mistake; 21] = [
    (
        "a reserved task attribute",
        |pair| command(pair, |bhs| byte(bhs, 1, 0xc5)),
        RejectReason::InvalidField,
        Then::GoesOn,
    ),
    (
        "a command without a tag",
        |pair| command(pair, |bhs| (16..20).for_each(|at| byte(bhs, at, 0xff))),
        RejectReason::InvalidField,
        Then::GoesOn,
    ),
    (
        "the tag of a command in flight",
        |pair| {
            let tag = in_flight(pair);
            let mut command = pair.command(true, false, 512);
            command.task_tag = tag;
            pair.encode(command.emit(), &[])
        },
        RejectReason::TaskInProgress,
        Then::GoesOn,
    ),
    (
        "a task management request with the tag of a command in flight",
        |pair| {
            let mut request = task_request(pair, 2, NONE);
            request.task_tag = in_flight(pair);
            request.cmd_sn = pair.cmd_sn;
            pair.encode(request.emit(), &[])
        },
        RejectReason::TaskInProgress,
        Then::GoesOn,
    ),
    (
        "a task management request without a tag",
        |pair| {
            let mut request = task_request(pair, 2, NONE);
            request.task_tag = NONE;
            pair.encode(request.emit(), &[])
        },
        RejectReason::InvalidField,
        Then::GoesOn,
    ),
    (
        "one immediate command too many",
        |pair| {
            let mut bytes = Vec::new();
            for _ in 0..17 {
                let mut command = pair.command(true, false, 512);
                pair.cmd_sn -= 1;
                (command.immediate, command.cmd_sn) = (true, pair.cmd_sn);
                bytes.extend(pair.encode(command.emit(), &[]));
            }
            bytes
        },
        RejectReason::TooManyImmediate,
        Then::GoesOn,
    ),
    (
        "an additional header where there is none",
        |pair| {
            let mut bhs = ping(pair, 1, NONE).emit();
            bhs.set_ahs_len(4);
            [&bhs.as_bytes()[..], &[0; 4]].concat()
        },
        RejectReason::InvalidField,
        Then::GoesOn,
    ),
    (
        "text that is no key=value",
        |pair| text(pair, NONE, true, false, "nonsense\0"),
        RejectReason::Protocol,
        Then::GoesOn,
    ),
    (
        "a key twice",
        |pair| text(pair, NONE, true, false, "SendTargets=\0SendTargets=\0"),
        RejectReason::Protocol,
        Then::GoesOn,
    ),
    (
        "text that is final and goes on",
        |pair| text(pair, NONE, true, true, "A=b\0"),
        RejectReason::Protocol,
        Then::GoesOn,
    ),
    ("an unknown transfer tag", |pair| text(pair, 1234, true, false, ""), RejectReason::InvalidField, Then::GoesOn),
    (
        "an impossible declaration",
        |pair| text(pair, NONE, true, false, "MaxRecvDataSegmentLength=1\0"),
        RejectReason::InvalidField,
        Then::GoesOn,
    ),
    (
        "a text while one is being answered",
        |pair| {
            let first = text(pair, NONE, true, false, "SendTargets=\0");
            [first.clone(), first].concat()
        },
        RejectReason::Protocol,
        Then::GoesOn,
    ),
    (
        "text without end",
        |pair| {
            // 32 parts of 2000 bytes are taken, 64 KiB.
            let long = format!("A={}\0", "b".repeat(1997));
            pair.send_bytes(&text(pair, NONE, false, true, &long));
            for _ in 0..31 {
                let bytes = next_text(pair, &long);
                pair.send_bytes(&bytes);
            }
            next_text(pair, &long)
        },
        RejectReason::LongOperation,
        Then::GoesOn,
    ),
    ("a reserved reason for a logout", |pair| logout(pair, 77, 8), RejectReason::InvalidField, Then::GoesOn),
    ("a logout without a tag", |pair| logout(pair, 0, NONE), RejectReason::InvalidField, Then::GoesOn),
    (
        "a SNACK at ErrorRecoveryLevel 0",
        |pair| pair.encode(Snack { kind: 1, task_tag: NONE, exp_stat_sn: 0, first: 0, count: 0 }.emit(), &[]),
        RejectReason::Snack,
        Then::GoesOn,
    ),
    (
        "a login after login",
        |pair| pair.encode(pair.login_header(Stage::Operational, None).emit(), &[]),
        RejectReason::Protocol,
        Then::Ends,
    ),
    (
        "a PDU of a target",
        |pair| {
            let answer = NopIn { lun: 0, task_tag: 1, transfer_tag: NONE, numbers: Default::default() };
            pair.encode(answer.emit(), &[])
        },
        RejectReason::Protocol,
        Then::Ends,
    ),
    (
        "an opcode that nobody knows",
        |pair| command(pair, |bhs| byte(bhs, 0, 0x1e)),
        RejectReason::NotSupported,
        Then::Ends,
    ),
    (
        "more data than was agreed",
        |pair| {
            let mut bhs = pair.command(false, true, 1 << 20).emit();
            bhs.set_data_len((256 << 10) + 1);
            bhs.as_bytes().to_vec()
        },
        RejectReason::Protocol,
        Then::Ends,
    ),
];

/// The reject that is among what came; it shows the header of what was rejected.
fn reject(pair: &mut Pair) -> Option<u8> {
    let received = pair.receive_all().into_iter().find(|pdu| pdu.bhs.opcode() == Some(Opcode::Reject))?;
    assert_eq!(received.data.len(), 48);
    Some(Reject::parse(&received.bhs).unwrap().reason)
}

#[test]
fn every_mistake_is_rejected_with_its_reason() {
    for (what, mistake, reason, then) in MISTAKES {
        let mut pair = Pair::logged_in();
        let bytes = mistake(&mut pair);
        pair.send_bytes(&bytes);
        assert_eq!(reject(&mut pair), Some(reason as u8), "{what}");
        let is_closed = pair.connection.close_reason().is_some();
        assert_eq!(is_closed, then == Then::Ends, "{what}");
        if then == Then::GoesOn {
            // The number that it may have used is used, and the next command is taken.
            let command = pair.command(false, false, 0);
            pair.events.clear();
            pair.send(command.emit(), &[]);
            pair.expect_command();
        }
    }
}

/// §7.8: data that do not match their digest were not received. Of a command nobody sends it again at this level.
#[test]
fn a_wrong_data_digest_has_its_own_reason() {
    let mut pair = Pair::logged_in_with(Settings::default(), &["DataDigest=CRC32C"]);
    let mut bytes = pair.encode(ping(&pair, 5, NONE).emit(), b"ping");
    *bytes.last_mut().unwrap() ^= 1;
    pair.send_bytes(&bytes);
    assert_eq!(reject(&mut pair), Some(RejectReason::DataDigest as u8));
}
