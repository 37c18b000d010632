//! What hosts and administrators do, and what they are told.

use dyad_contract::volume::{VolumeDone, VolumeError, VolumeOp, VolumeResult};
use dyad_mirror::{Command, OpId, PartEvent};
use dyad_payload::Payload;
use dyad_units::Period;

use super::{B, World, span};

impl World {
    pub fn ask(&mut self, at: usize, op: VolumeOp) -> u64 {
        let id = self.next_op;
        self.next_op += 1;
        let arrived = self.now;
        self.event(at, PartEvent::Op { id: OpId(id), op, arrived });
        id
    }

    pub fn payload(&self, bytes: &[u8]) -> Payload {
        Payload::from(self.slab.copy_of(bytes).unwrap())
    }

    pub fn write(&mut self, at: usize, block: u64, byte: u8) -> u64 {
        let data = self.payload(&[byte; B as usize]);
        self.ask(at, VolumeOp::Write { span: span(block), data, durable: false })
    }

    pub fn read(&mut self, at: usize, block: u64) -> u64 {
        self.ask(at, VolumeOp::Read { span: span(block) })
    }

    pub fn abort(&mut self, at: usize, id: u64) {
        self.event(at, PartEvent::Abort { id: OpId(id) });
    }

    pub fn command(&mut self, at: usize, command: Command) -> u64 {
        let id = self.next_op;
        self.next_op += 1;
        self.event(at, PartEvent::Command { id, command });
        id
    }

    /// Writes by this node; asks again as long as it is busy, at most ten seconds.
    pub fn put(&mut self, at: usize, block: u64, byte: u8) {
        for _ in 0..100 {
            let id = self.write(at, block, byte);
            self.wait_for(id);
            match self.result(id) {
                Some(Ok(_)) => return,
                Some(Err(VolumeError::Busy)) => self.pass(Period::from_millis(100)),
                other => panic!("{other:?}"),
            }
        }
        panic!("never served: {}", self.status(at).sentence);
    }

    /// Reads by this node, as [`Self::put`].
    pub fn get(&mut self, at: usize, block: u64) -> u8 {
        for _ in 0..100 {
            let id = self.read(at, block);
            self.wait_for(id);
            match self.result(id) {
                Some(Ok(VolumeDone::Data(data))) => return data.to_vec()[0],
                Some(Err(VolumeError::Busy)) => self.pass(Period::from_millis(100)),
                other => panic!("{other:?}: {}", self.status(at).sentence),
            }
        }
        panic!("never served: {}", self.status(at).sentence);
    }

    fn wait_for(&mut self, id: u64) {
        for _ in 0..400 {
            if self.answers.contains_key(&id) {
                return;
            }
            self.pass(Period::from_millis(10));
        }
    }

    pub fn result(&self, id: u64) -> Option<&VolumeResult> {
        self.answers.get(&id).map(|(_, result)| result)
    }

    pub fn error(&self, id: u64) -> Option<VolumeError> {
        self.result(id).and_then(|result| result.as_ref().err().copied())
    }

    pub fn is_done(&self, id: u64) -> bool {
        matches!(self.result(id), Some(Ok(_)))
    }
}
