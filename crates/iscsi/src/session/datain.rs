//! Answers of SCSI commands: Data-In and SCSI Response (RFC 7143 §11.4, §11.7).

use dyad_payload::{Payload, Slab};

use super::{Io, Session};
use crate::event::TaskTag;
use crate::pdu::{DataIn, NO_TAG, Numbers, Residual, ScsiResponse};
use crate::tasks::{DataFault, Held, Task};

/// SCSI status GOOD.
const GOOD: u8 = 0x00;
/// SCSI status CHECK CONDITION.
const CHECK_CONDITION: u8 = 0x02;

/// Longest sense data (SPC-4 §4.5).
const SENSE_BYTES_MAX: usize = 252;

impl Session {
    /// The node's answer to a command.
    pub fn respond(&mut self, tag: TaskTag, status: u8, sense: &[u8], data_in: Payload, io: &mut Io<'_>) {
        let Some(task) = self.tasks.find_mut(tag).filter(|task| task.is_with_node()) else { return };
        let sense = &sense[..sense.len().min(SENSE_BYTES_MAX)];
        if task.is_data_open() {
            // §11.4.2: not while the host may still be sending.
            task.held = Some(Box::new(Held { status, sense: sense.to_vec(), data_in }));
            task.out.data = Payload::new();
            return;
        }
        self.answer(tag, status, sense, &data_in, io);
    }

    /// Answers a task that the node is done with, as soon as its host stopped sending.
    pub(super) fn settle(&mut self, tag: TaskTag, io: &mut Io<'_>) {
        let Some(task) = self.tasks.find_mut(tag).filter(|task| !task.is_data_open()) else { return };
        if let Some(held) = task.held.take() {
            self.answer(tag, held.status, &held.sense, &held.data_in, io);
        } else if let Some(fault) = task.fault {
            self.answer(tag, CHECK_CONDITION, &sense_of(fault), &Payload::new(), io);
        }
    }

    fn answer(&mut self, tag: TaskTag, status: u8, sense: &[u8], data_in: &Payload, io: &mut Io<'_>) {
        // Ended first: the window that the answer shows already has its place.
        let Some(task) = self.end_task(tag) else { return };
        let residual = residual_of(&task, data_in.len());
        let len = data_in.len().min(task.in_len as usize);
        let with_status = status == GOOD && sense.is_empty();
        let segments = self.send_data_in(&task, data_in, len, with_status.then_some(residual), io);
        if segments == 0 || !with_status {
            let response = ScsiResponse {
                residual,
                response: 0,
                status,
                task_tag: task.task_tag,
                numbers: self.numbers(),
                exp_data_sn: segments,
            };
            send_response(response, sense, io);
        }
        self.solicit_waiting(io);
    }

    /// Cuts data into segments and sequences; the last one carries a GOOD status if there is nothing more to say
    /// (§11.7.3). Says how many were sent.
    fn send_data_in(
        &mut self,
        task: &Task,
        data: &Payload,
        len: usize,
        residual: Option<Residual>,
        io: &mut Io<'_>,
    ) -> u32 {
        let segment_max = self.parameters.send_segment_bytes_max as usize;
        let burst_max = self.parameters.burst_bytes_max as usize;
        let (mut at, mut data_sn) = (0, 0);
        while at < len {
            let burst_left = burst_max - at % burst_max;
            let take = (len - at).min(segment_max).min(burst_left);
            let is_last = at + take == len;
            let status = residual.filter(|_| is_last).map(|residual| (GOOD, residual));
            let numbers = match status {
                Some(_) => self.numbers(),
                None => Numbers { stat_sn: 0, ..self.numbers_unused() },
            };
            let pdu = DataIn {
                is_final: is_last || take == burst_left,
                acknowledge: false,
                status,
                lun: 0,
                task_tag: task.task_tag,
                transfer_tag: NO_TAG,
                numbers,
                data_sn,
                offset: at as u32,
            };
            if take == data.len() {
                io.output.push_data(pdu.emit(), data);
            } else {
                io.output.push_data(pdu.emit(), &data.slice(at, take));
            }
            at += take;
            data_sn += 1;
        }
        if at > 0 {
            let held = Slab::bytes_for(data.len()).saturating_sub(at);
            io.output.pin(u32::try_from(held).unwrap_or(u32::MAX));
        }
        data_sn
    }
}

fn send_response(response: ScsiResponse, sense: &[u8], io: &mut Io<'_>) {
    if sense.is_empty() {
        return io.output.push(response.emit());
    }
    // §11.4.7: the length, then the sense data.
    let mut segment = Vec::with_capacity(2 + sense.len());
    segment.extend_from_slice(&(sense.len() as u16).to_be_bytes());
    segment.extend_from_slice(sense);
    io.output.push_small(response.emit(), &segment);
}

/// §11.4.5.1: what the command transfers, against what the host expected.
fn residual_of(task: &Task, data_in_len: usize) -> Residual {
    // A read for which the host has only data-out, if anything: nothing of it was transferred.
    if task.in_len == 0 && data_in_len > 0 {
        return Residual::Overflow(u32::try_from(data_in_len).unwrap_or(u32::MAX));
    }
    let transfer = if task.in_len > 0 { data_in_len as u64 } else { u64::from(task.transfer_len) };
    let expected = u64::from(task.in_len.max(task.out_len));
    let count = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    match transfer.cmp(&expected) {
        std::cmp::Ordering::Equal => Residual::None,
        std::cmp::Ordering::Greater => Residual::Overflow(count(transfer - expected)),
        std::cmp::Ordering::Less => Residual::Underflow(count(expected - transfer)),
    }
}

/// Fixed-format sense data of an iSCSI condition (§11.4.7.2): ABORTED COMMAND with what went wrong.
fn sense_of(fault: DataFault) -> [u8; 18] {
    let (key, asc, ascq) = match fault {
        DataFault::Unexpected => (0x0b, 0x0c, 0x0c),
        DataFault::WrongAmount => (0x0b, 0x0c, 0x0d),
        DataFault::Lost => (0x0b, 0x47, 0x05),
        // INVALID FIELD IN COMMAND INFORMATION UNIT (SPC-4 table F.1).
        DataFault::NotSupported => (0x05, 0x0e, 0x03),
    };
    let mut sense = [0; 18];
    (sense[0], sense[2], sense[7]) = (0x70, key, 10);
    (sense[12], sense[13]) = (asc, ascq);
    sense
}
