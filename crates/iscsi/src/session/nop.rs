//! Pings, both ways (RFC 7143 §11.18, §11.19).

use dyad_payload::Payload;

use super::{Io, Session};
use crate::pdu::{Bhs, NO_TAG, NopIn, NopOut};
use crate::tx::Output;

impl Session {
    /// A ping of the host, or its answer to ours. That something came at all is what counts of the latter; the
    /// clock was told already.
    pub(super) fn on_nop_out(&mut self, bhs: &Bhs, data: Payload, io: &mut Io<'_>) {
        let Ok(ping) = NopOut::parse(bhs) else { return };
        if ping.task_tag == NO_TAG {
            return;
        }
        // §11.19.2: as much of the ping data as the host takes in one segment.
        let len = data.len().min(self.parameters.send_segment_bytes_max as usize);
        let answer = NopIn { lun: ping.lun, task_tag: ping.task_tag, transfer_tag: NO_TAG, numbers: self.numbers() };
        io.output.push_data(answer.emit(), &data.slice(0, len));
    }

    pub(super) fn send_ping(&self, output: &mut Output) {
        let numbers = self.numbers_unused();
        let ping = NopIn { lun: 0, task_tag: NO_TAG, transfer_tag: self.ping_serial, numbers };
        output.push(ping.emit());
    }
}
