//! Data-Out that goes wrong after its command was begun.
//!
//! What broke: a command that waited for the shared state when its data failed was forgotten by its session and went on all
//! the same. It wished for its data later, for a task that was no more: each time a part of its session's wishes, and of the
//! budget of all, was gone until the restart, and the place in the session's table was no longer that of the command that
//! had it then, so that an abort of that one was answered past it (M19).

mod cast;

use std::time::Duration;

use cast::Stage;
use dyad_bench::initiator::pdu::{FINAL, Header, NO_TAG, opcode};
use dyad_bench::initiator::{Options, Session, Transfer, cdb};
use dyad_units::Bytes;

/// The least memory that a node has; the writes of a session may wish for a sixteenth.
const BUFFERS: u64 = 64;
/// The longest parameter list, so that few commands are enough.
const LIST: u32 = 8192;
/// Twice what a session may wish for.
const TIMES: u64 = 2 * (BUFFERS << 20) / 16 / LIST as u64;
/// A write is answered within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

const TAG: u32 = 7000;
const REGISTER: u8 = 0;
const CHECK_CONDITION: u8 = 2;

/// REGISTER, which looks at the shared state before it wants its list; all of that is to come unasked.
fn register() -> Header {
    let mut header = Header::new(opcode::COMMAND | opcode::IMMEDIATE, 0x20);
    let mut cdb = cdb::reserve_out(REGISTER, 0);
    cdb[5..9].copy_from_slice(&LIST.to_be_bytes());
    header.set_u32(16, TAG).set_u32(20, LIST).set(32, &cdb);
    header
}

/// The last of its Data-Out PDUs; what was to come before it does not.
fn end_of_data() -> Header {
    let mut header = Header::new(opcode::DATA_OUT, FINAL);
    header.set_u32(16, TAG).set_u32(20, NO_TAG).set_u32(40, 1);
    header
}

/// Both in one piece, so that the second is there before the state is.
fn fail(session: &mut Session) {
    let stream = session.stream();
    stream.push(register(), &[]).unwrap();
    stream.push(end_of_data(), &[0; 4]).unwrap();
    stream.flush().unwrap();
    let answer = stream.header().unwrap();
    assert_eq!((answer.opcode(), answer.itt(), answer.0[3]), (opcode::RESPONSE, TAG, CHECK_CONDITION));
    stream.data(&mut vec![0; answer.data_len()]).unwrap();
}

#[test]
fn what_was_begun_without_its_data_is_over_when_the_data_failed() {
    let stage = Stage::with(|settings| settings.buffers = Bytes::mib(BUFFERS));
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let options = Options { immediate_data: false, initial_r2t: false, ..stage.login("v") };
    let mut session = Session::login(&options).unwrap();
    assert!(session.negotiated().first_burst as u32 >= LIST && !session.negotiated().initial_r2t);
    while session.call(cdb::test_unit_ready(), Transfer::None).unwrap().status == CHECK_CONDITION {}
    (0..TIMES).for_each(|_| fail(&mut session));
    let seen = stage.handle().sessions().unwrap();
    assert_eq!(seen[0].in_flight, 0, "nothing is left of them");
    // All but the first burst has to be asked for.
    session.stream().set_patience(PATIENCE).unwrap();
    let ended = session.call(cdb::write(0, 2048), Transfer::Out(vec![1; 1 << 20]));
    assert_eq!(ended.map(|ended| ended.status).unwrap(), 0);
}
