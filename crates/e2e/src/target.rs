//! What every target under test has in common.

use std::net::SocketAddr;

use dyad_bench::initiator::Options;

/// A running iSCSI target with one logical unit to be tested.
pub trait Target {
    /// A short name for reports.
    fn label(&self) -> &str;
    /// Where it listens.
    fn portal(&self) -> SocketAddr;
    /// Its iSCSI name.
    fn iqn(&self) -> &str;
    /// Number of the logical unit.
    fn lun(&self) -> u8;
    /// Its process.
    fn pid(&self) -> u32;

    /// All processes that take part in serving it.
    fn pids(&self) -> Vec<u32> {
        vec![self.pid()]
    }

    /// URL for qemu and libiscsi.
    fn url(&self) -> String {
        format!("iscsi://{}/{}/{}", self.portal(), self.iqn(), self.lun())
    }

    /// URL with CHAP credentials for qemu and libiscsi.
    fn url_with(&self, user: &str, secret: &str) -> String {
        format!("iscsi://{user}%{secret}@{}/{}/{}", self.portal(), self.iqn(), self.lun())
    }

    /// Login options of our own initiator.
    fn options(&self) -> Options {
        Options { lun: self.lun(), ..Options::new(self.portal(), self.iqn()) }
    }
}
