//! The logical unit: the doors, and what is asked of every command before its own handler.

use dyad_contract::volume::VolumeResult;
use dyad_payload::{Payload, Slab};
use dyad_units::{Bytes, VolumeId};

use crate::nexus::{Attention, NexusId, Nexuses, TooManyNexuses, Who};
use crate::response::{Begun, Response, Step};
use crate::sense::{Asc, Condition, Sense, SenseFormat};
use crate::shape::{Shape, SizeError};
use crate::task::Task;

/// Who the logical unit says that it is. The same on every node that serves the volume (M18), but for the
/// port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The volume: source of the designators that hosts tell volumes apart by.
    pub volume: VolumeId,
    /// iSCSI name of the target device.
    pub target_name: String,
    /// Relative target port identifier, from 1.
    pub target_port: u16,
    /// Target port group, as announced by the transport.
    pub target_port_group: u16,
}

/// What a logical unit is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its identity.
    pub identity: Identity,
    /// Its size and blocks.
    pub shape: Shape,
    /// WCE: whether a write may be acknowledged before it is durable (A1); otherwise every write is (A2).
    pub write_cache: bool,
    /// Whether hosts may only read.
    pub read_only: bool,
}

/// The device server of one volume.
pub struct LogicalUnit {
    settings: Settings,
    nexuses: Nexuses,
    slab: Slab,
}

impl LogicalUnit {
    /// A started logical unit without nexuses. Parameter data are built in buffers of `slab`.
    pub fn new(settings: Settings, slab: Slab) -> Self {
        Self { settings, nexuses: Nexuses::default(), slab }
    }

    /// A session began. `first` waits for its first command: [`Attention::PowerOn`], as a rule.
    ///
    /// # Errors
    /// [`TooManyNexuses`] over [`crate::NEXUSES_MAX`].
    pub fn add_nexus(&mut self, nexus: NexusId, first: Option<Attention>) -> Result<(), TooManyNexuses> {
        self.nexuses.add(nexus)?;
        if let Some(first) = first {
            self.nexuses.attend(Who::Only(nexus), first);
        }
        Ok(())
    }

    /// A session ended.
    pub fn remove_nexus(&mut self, nexus: NexusId) {
        self.nexuses.remove(nexus);
    }

    /// Count of nexuses.
    pub fn nexuses(&self) -> usize {
        self.nexuses.len()
    }

    /// Begins a command. `lun` is the LUN field of the transport's command, all eight bytes (SAM-5 §4.7);
    /// `cdb` the CDB, zeros behind a short one.
    pub fn begin(&mut self, nexus: NexusId, lun: u64, cdb: &[u8; 16]) -> Begun {
        let _ = (nexus, lun, cdb, &self.slab);
        Begun::Answer(Response::check(Sense::new(Condition::illegal(Asc::INVALID_OPCODE), SenseFormat::Fixed)))
    }

    /// The data-out that [`Begun::DataOut`] asked for, or as much of it as the transport has.
    pub fn data_out(&mut self, task: Task, data: Payload) -> Step {
        let _ = (task, data);
        Step::Answer(Response::good())
    }

    /// The volume's answer to what was asked last.
    pub fn finish(&mut self, task: Task, result: VolumeResult) -> Step {
        let _ = (task, result);
        Step::Answer(Response::good())
    }

    /// A unit attention for some nexuses.
    pub fn attend(&mut self, who: Who, what: Attention) {
        self.nexuses.attend(who, what);
    }

    /// A LOGICAL UNIT RESET or a target reset took effect: the caller has dropped all tasks. Back to the
    /// state after a start; every nexus learns it (SAM-5 §6.3.3).
    pub fn reset(&mut self) {
        self.nexuses.attend(Who::All, Attention::DeviceReset);
    }

    /// Size and blocks.
    pub fn shape(&self) -> Shape {
        self.settings.shape
    }

    /// The volume was resized; every nexus learns it.
    ///
    /// # Errors
    /// [`SizeError`] if a volume cannot have that size.
    pub fn resize(&mut self, size: Bytes) -> Result<(), SizeError> {
        self.settings.shape = Shape::new(self.settings.shape.block(), size)?;
        self.nexuses.attend(Who::All, Attention::CapacityChanged);
        Ok(())
    }

    /// The write cache was switched by the administrator; every nexus learns it.
    pub fn set_write_cache(&mut self, write_cache: bool) {
        self.settings.write_cache = write_cache;
        self.nexuses.attend(Who::All, Attention::ModeParametersChanged);
    }
}
