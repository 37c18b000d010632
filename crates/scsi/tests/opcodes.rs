//! REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS (SPC-4 §6.35, §6.36).

mod common;

use common::{Bench, field, good, sense};
use dyad_scsi::{COMMANDS, Command, Direction, LengthRule};

fn report(bench: &mut Bench, options: u8, opcode: u8, action: u8) -> dyad_scsi::Response {
    bench.run(&[0xa3, 0x0c, options, opcode, 0, action, 0, 1, 0, 0, 0, 0])
}

/// Every command that the first whole slice promises.
#[test]
fn the_promised_commands_are_in_the_table() {
    let promised = [
        0x00, 0x03, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1d, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35,
        0x41, 0x42, 0x55, 0x56, 0x57, 0x5a, 0x5e, 0x5f, 0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9c, 0x9e,
        0xa0, 0xa3, 0xa8, 0xaa, 0xae, 0xaf,
    ];
    for opcode in promised {
        assert!(COMMANDS.iter().any(|command| command.opcode() == opcode), "{opcode:02x}");
    }
    assert!(COMMANDS.is_sorted_by_key(Command::opcode), "the table is in order");
}

/// A row is a claim; these are what rows must agree on.
#[test]
fn every_row_is_consistent() {
    for command in COMMANDS {
        let len = match command.opcode() >> 5 {
            0 => 6,
            1 | 2 => 10,
            4 => 16,
            5 => 12,
            _ => panic!("{}: group without a length", command.name),
        };
        let len = if command.opcode() == 0x9e { 16 } else { len };
        assert_eq!(command.usage.len(), len, "{}", command.name);
        assert_eq!(command.usage[len - 1], 0, "{}: NACA is not supported", command.name);
        assert_eq!(command.direction == Direction::None, command.length == LengthRule::None, "{}", command.name);
        assert!(!command.writes || command.needs_ready, "{}", command.name);
        if let Some(action) = command.service_action {
            assert_eq!(command.usage[1] & 0x1f, action, "{}", command.name);
        }
    }
}

#[test]
fn all_commands_are_listed_with_and_without_timeouts() {
    let mut bench = Bench::new();
    let mut list = |options| good(bench.run(&[0xa3, 0x0c, options, 0, 0, 0, 0, 1, 0, 0, 0, 0]));
    let plain = list(0);
    assert_eq!(plain[..4], (COMMANDS.len() as u32 * 8).to_be_bytes());
    for (descriptor, command) in plain[4..].chunks(8).zip(COMMANDS) {
        let action = command.service_action.unwrap_or(0);
        let servactv = u8::from(command.service_action.is_some());
        let len = command.usage.len() as u8;
        assert_eq!(descriptor, [command.opcode(), 0, 0, action, 0, servactv, 0, len]);
    }
    let timed = list(0x80);
    assert_eq!(timed[..4], (COMMANDS.len() as u32 * 20).to_be_bytes());
    for (descriptor, command) in timed[4..].chunks(20).zip(COMMANDS) {
        assert_eq!(descriptor[5] & 0x02, 0x02, "CTDP");
        assert_eq!(descriptor[8..16], [0, 0x0a, 0, 0, 0, 0, 0, 0]);
        assert_eq!(descriptor[16..], command.timeout_secs.to_be_bytes());
    }
}

#[test]
fn one_command_is_told_with_its_usage_map() {
    let mut bench = Bench::new();
    for command in COMMANDS {
        let (right, wrong) = if command.service_action.is_some() { (0b010, 0b001) } else { (0b001, 0b010) };
        let action = command.service_action.unwrap_or(0);
        let data = good(report(&mut bench, right, command.opcode(), action));
        assert_eq!(data, [&[0, 0x03, 0, command.usage.len() as u8], command.usage].concat());
        assert_eq!(good(report(&mut bench, 0b011, command.opcode(), action)), data);
        let timed = good(report(&mut bench, 0x80 | right, command.opcode(), action));
        assert_eq!((timed[1], timed.len()), (0x83, data.len() + 12));
        let response = report(&mut bench, wrong, command.opcode(), action);
        assert_eq!((sense(&response), field(&response)), ((5, 0x24, 0), Some((true, 2, Some(2)))));
    }
}

#[test]
fn what_is_not_there_is_told_as_not_supported() {
    let mut bench = Bench::new();
    for (options, opcode, action) in
        [(0b001, 0x5d, 0), (0b011, 0x28, 1), (0b010, 0x9e, 0x13), (0b011, 0x9e, 0x13), (0b010, 0xff, 9)]
    {
        assert_eq!(good(report(&mut bench, options, opcode, action)), [0, 0x01, 0, 0]);
    }
    assert_eq!(sense(&report(&mut bench, 0b100, 0x28, 0)), (5, 0x24, 0));
}

#[test]
fn the_task_management_functions_are_told() {
    let mut bench = Bench::new();
    assert_eq!(good(bench.run(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0])), [0xd8, 0, 0, 0]);
    let extended = good(bench.run(&[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 16, 0, 0]));
    assert_eq!(extended, [0xd8, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(sense(&bench.run(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0])), (5, 0x24, 0));
}

/// A map that says "not evaluated" must mean it: each such bit is refused where it is, or ignored.
#[test]
fn every_bit_outside_the_usage_map_is_refused_by_its_place() {
    for command in COMMANDS {
        let mut refused = 0;
        for bit in 8..command.usage.len() * 8 {
            let (byte, bit) = (bit / 8, 7 - bit % 8);
            if command.usage[byte] >> bit & 1 == 1 || byte == 1 && command.service_action.is_some() && bit < 5 {
                continue;
            }
            let mut cdb = vec![0; command.usage.len()];
            cdb[0] = command.opcode();
            cdb[1] = command.service_action.unwrap_or_else(|| mode(command));
            cdb[byte] |= 1 << bit;
            let response = Bench::new().run(&cdb);
            let Some((true, at_byte, Some(at_bit))) = field_of_refusal(&response) else { continue };
            let protect = byte == 1 && bit >= 5 && at_bit == 7;
            assert!(
                usize::from(at_byte) == byte && (usize::from(at_bit) == bit || protect),
                "{} {cdb:02x?}",
                command.name
            );
            refused += 1;
        }
        assert!(refused >= 8, "{}: NACA and its neighbours at least", command.name);
    }
}

/// Commands whose byte 1 has a mode that cannot be zero.
fn mode(command: &Command) -> u8 {
    match command.opcode() {
        0x3b | 0x3c => 0x0a,
        _ => 0,
    }
}

fn field_of_refusal(response: &dyad_scsi::Response) -> Option<(bool, u16, Option<u8>)> {
    (response.status == dyad_scsi::Status::CheckCondition && sense(response) == (5, 0x24, 0))
        .then(|| field(response))
        .flatten()
}
