//! Hosts that register, reserve, read and write, at the nodes of a cluster.

#![allow(dead_code)] // each test file uses its part

use dyad_scsi::{Response, Status};

use super::cluster::{At, Cluster, reserve_in, reserve_out};
use super::good;

pub const REGISTER: u8 = 0;
pub const RESERVE: u8 = 1;
pub const RELEASE: u8 = 2;
pub const CLEAR: u8 = 3;
pub const PREEMPT: u8 = 4;
pub const PREEMPT_AND_ABORT: u8 = 5;
pub const REGISTER_AND_IGNORE: u8 = 6;

pub const WRITE_EXCLUSIVE: u8 = 1;
pub const EXCLUSIVE_ACCESS: u8 = 3;
pub const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
pub const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
pub const WRITE_EXCLUSIVE_ALL: u8 = 7;
pub const EXCLUSIVE_ACCESS_ALL: u8 = 8;

pub const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub const TEST_UNIT_READY: [u8; 6] = [0; 6];
pub const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
pub const RELEASE_6: [u8; 6] = [0x17, 0, 0, 0, 0, 0];

pub const RESERVATIONS_PREEMPTED: (u8, u8, u8) = (6, 0x2a, 3);
pub const RESERVATIONS_RELEASED: (u8, u8, u8) = (6, 0x2a, 4);
pub const REGISTRATIONS_PREEMPTED: (u8, u8, u8) = (6, 0x2a, 5);

/// Hosts 0 and 1 at node 0, hosts 2 at node 1, unless a test says otherwise.
pub const A: At = At { node: 0, host: 0 };
pub const B: At = At { node: 0, host: 1 };
pub const C: At = At { node: 1, host: 2 };

pub trait Play {
    fn out(&mut self, at: At, action: u8, kind: u8, key: u64, new_key: u64) -> Response;
    fn register(&mut self, at: At, key: u64);
    fn read(&mut self, at: At) -> Response;
    fn write(&mut self, at: At) -> Response;
    fn keys(&mut self, at: At) -> (u32, Vec<u64>);
    fn held(&mut self, at: At) -> Option<(u64, u8)>;
}

impl Play for Cluster {
    fn out(&mut self, at: At, action: u8, kind: u8, key: u64, new_key: u64) -> Response {
        let (cdb, list) = reserve_out(action, kind, key, new_key, 0);
        self.run(at, &cdb, &list)
    }

    fn register(&mut self, at: At, key: u64) {
        good(self.out(at, REGISTER, 0, 0, key));
    }

    fn read(&mut self, at: At) -> Response {
        self.run(at, &READ, &[])
    }

    fn write(&mut self, at: At) -> Response {
        self.run(at, &WRITE, &[1; 512])
    }

    fn keys(&mut self, at: At) -> (u32, Vec<u64>) {
        let data = good(self.run(at, &reserve_in(0), &[]));
        let keys = data[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect();
        (u32::from_be_bytes(data[..4].try_into().unwrap()), keys)
    }

    fn held(&mut self, at: At) -> Option<(u64, u8)> {
        let data = good(self.run(at, &reserve_in(1), &[]));
        assert_eq!(data[7] as usize, data.len() - 8);
        (data.len() > 8).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
    }
}

#[track_caller]
pub fn conflict(response: &Response) {
    assert_eq!(response.status, Status::ReservationConflict, "{response:?}");
}
