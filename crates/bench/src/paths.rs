//! The paths to a volume as its hosts see them: who it is, through which target port group a session goes, which group is
//! the short way (ALUA, SPC-4 §5.15).

use crate::disk::{Disk, DiskError};
use crate::initiator::{Cdb, Transfer, cdb};

const ANSWER_LEN: usize = 1024;
/// A target port group designator of the port that is asked (SPC-4 §7.8.6.2: association 1, type 5).
const OWN_GROUP: u8 = 0x15;
const RTPG: &str = "REPORT TARGET PORT GROUPS";
const DESIGNATORS: &str = "INQUIRY of page 83h";

/// A target port group (SPC-4 §6.37).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PortGroup {
    /// TARGET PORT GROUP.
    pub number: u16,
    /// ASYMMETRIC ACCESS STATE: 0 active/optimized, 1 active/non-optimized.
    pub state: u8,
    /// PREF.
    pub is_preferred: bool,
}

impl Disk {
    /// The designators of VPD page 83h: association and type, designator.
    pub fn designators(&mut self) -> Result<Vec<(u8, Vec<u8>)>, DiskError> {
        let asked = cdb::inquiry(Some(0x83), ANSWER_LEN as u16);
        let page = self.run(DESIGNATORS, asked, Transfer::In(vec![0; ANSWER_LEN]))?.into_bytes();
        let len = page.get(2..4).and_then(<[u8]>::first_chunk).ok_or(DiskError::Short(DESIGNATORS))?;
        let mut rest = page.get(4..4 + usize::from(u16::from_be_bytes(*len))).ok_or(DiskError::Short(DESIGNATORS))?;
        let mut all = Vec::new();
        while let Some((&[_, kind, _, len], after)) = rest.split_first_chunk() {
            let (name, after) = after.split_at_checked(usize::from(len)).ok_or(DiskError::Short(DESIGNATORS))?;
            all.push((kind & 0x3f, name.to_vec()));
            rest = after;
        }
        Ok(all)
    }

    /// The target port group that this session goes through.
    pub fn own_group(&mut self) -> Result<u16, DiskError> {
        let all = self.designators()?;
        let group = all.iter().find(|(kind, _)| *kind == OWN_GROUP);
        let group = group.and_then(|(_, name)| name.get(2..4)?.first_chunk()).ok_or(DiskError::Short(DESIGNATORS))?;
        Ok(u16::from_be_bytes(*group))
    }

    /// All target port groups, in the order in which they are told.
    pub fn port_groups(&mut self) -> Result<Vec<PortGroup>, DiskError> {
        let mut asked: Cdb = [0; 16];
        (asked[0], asked[1]) = (0xa3, 0x0a);
        asked[6..10].copy_from_slice(&(ANSWER_LEN as u32).to_be_bytes());
        let data = self.run(RTPG, asked, Transfer::In(vec![0; ANSWER_LEN]))?.into_bytes();
        let len = data.first_chunk().ok_or(DiskError::Short(RTPG))?;
        let mut rest = data.get(4..4 + u32::from_be_bytes(*len) as usize).ok_or(DiskError::Short(RTPG))?;
        let mut all = Vec::new();
        while let Some((&[state, _, high, low, _, _, _, ports], after)) = rest.split_first_chunk() {
            let number = u16::from_be_bytes([high, low]);
            all.push(PortGroup { number, state: state & 0x0f, is_preferred: state & 0x80 != 0 });
            rest = after.get(4 * usize::from(ports)..).ok_or(DiskError::Short(RTPG))?;
        }
        Ok(all)
    }

    /// SET TARGET PORT GROUPS: this group becomes active/optimized (SPC-4 §6.45).
    pub fn make_optimized(&mut self, group: u16) -> Result<(), DiskError> {
        let mut asked: Cdb = [0; 16];
        (asked[0], asked[1], asked[9]) = (0xa4, 0x0a, 8);
        let [high, low] = group.to_be_bytes();
        let list = vec![0, 0, 0, 0, 0, 0, high, low];
        self.run("SET TARGET PORT GROUPS", asked, Transfer::Out(list)).map(drop)
    }
}
