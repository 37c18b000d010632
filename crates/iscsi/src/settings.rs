//! What an administrator may choose, and the bounds that nobody may pass.

use dyad_units::Period;

use crate::pdu::SEGMENT_BYTES_MAX;
use crate::tasks::QUEUE_DEPTH_MAX;

/// Which digests a session may use (RFC 7143 §13.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DigestPolicy {
    /// The first of the initiator's list: CRC32C or none.
    #[default]
    AsOffered,
    /// CRC32C; a login that does not offer it is refused.
    Required,
    /// None; a login that insists on CRC32C is refused.
    Off,
}

/// How connections behave. Shared by all of a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Commands that one session may have in flight (1 ..= 1024): the width of its CmdSN window.
    pub queue_depth: u16,
    /// MaxRecvDataSegmentLength that we declare, in bytes (512 ..= 2^24 - 1). Default 256 KiB.
    pub receive_segment_bytes_max: u32,
    /// Largest MaxBurstLength to agree to, in bytes (512 ..= 2^24 - 1). Default 16 MiB - 512.
    pub burst_bytes_max: u32,
    /// Largest FirstBurstLength to agree to, in bytes (512 ..= burst). Default 256 KiB.
    pub first_burst_bytes_max: u32,
    /// Most R2Ts of one command at a time (1 ..= 65535). Default 8.
    pub outstanding_r2ts_max: u16,
    /// Whether a command may bring data in its own PDU. Default yes.
    pub immediate_data: bool,
    /// Whether data must wait for an R2T (InitialR2T). Default no: a host that may send unsolicited data does.
    pub initial_r2t: bool,
    /// Digest of headers.
    pub header_digest: DigestPolicy,
    /// Digest of data segments.
    pub data_digest: DigestPolicy,
    /// From the TCP connection to the end of login. Default 15 s.
    pub login_timeout: Period,
    /// Silence of a host after which it is pinged. Default 10 s.
    pub ping_interval: Period,
    /// Silence after a ping after which the connection is dropped. Default 10 s.
    pub ping_timeout: Period,
    /// Time without any of the data that a host was asked for or began to send. Default 30 s.
    pub data_timeout: Period,
    /// Time without any byte taken by a host to which something is to be sent. Default 30 s.
    pub send_timeout: Period,
    /// From an asked-for logout to the dropping of the connection if the host does not log out. Default 30 s.
    pub logout_timeout: Period,
    /// Output that may wait for the host before no more of its commands are read, in bytes of the buffers that hold it:
    /// data queued and data that commands in flight will return. Default 32 MiB, two of the largest bursts.
    pub output_bytes_max: u64,
    /// Write data of one session that may be asked for or held at a time, in bytes. A single larger command still
    /// passes, alone. Default 32 MiB.
    pub solicited_bytes_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_depth: 128,
            receive_segment_bytes_max: 256 << 10,
            burst_bytes_max: (16 << 20) - 512,
            first_burst_bytes_max: 256 << 10,
            outstanding_r2ts_max: 8,
            immediate_data: true,
            initial_r2t: false,
            header_digest: DigestPolicy::AsOffered,
            data_digest: DigestPolicy::AsOffered,
            login_timeout: Period::from_secs(15),
            ping_interval: Period::from_secs(10),
            ping_timeout: Period::from_secs(10),
            data_timeout: Period::from_secs(30),
            send_timeout: Period::from_secs(30),
            logout_timeout: Period::from_secs(30),
            output_bytes_max: 32 << 20,
            solicited_bytes_max: 32 << 20,
        }
    }
}

/// A setting has a value that the protocol does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("iSCSI setting {name} is {value}; give {min} to {max}")]
pub struct SettingOutOfRange {
    /// Field of [`Settings`].
    pub name: &'static str,
    /// What it is.
    pub value: u64,
    /// Least.
    pub min: u64,
    /// Most.
    pub max: u64,
}

impl Settings {
    /// Whether hosts can be offered this: to be asked once, before the first connection.
    ///
    /// # Errors
    /// The first setting that is out of its range (RFC 7143 §13.12 to §13.17).
    pub fn check(&self) -> Result<(), SettingOutOfRange> {
        let segment = u64::from(SEGMENT_BYTES_MAX);
        let rows = [
            ("queue_depth", u64::from(self.queue_depth), 1, u64::from(QUEUE_DEPTH_MAX)),
            ("receive_segment_bytes_max", u64::from(self.receive_segment_bytes_max), 512, segment),
            ("burst_bytes_max", u64::from(self.burst_bytes_max), 512, segment),
            ("first_burst_bytes_max", u64::from(self.first_burst_bytes_max), 512, u64::from(self.burst_bytes_max)),
            ("outstanding_r2ts_max", u64::from(self.outstanding_r2ts_max), 1, u64::from(u16::MAX)),
            // Below, one ordinary command would stop all others.
            ("output_bytes_max", self.output_bytes_max, 64 << 10, u64::MAX),
        ];
        let bad = rows.into_iter().find(|&(_, value, min, max)| value < min || value > max);
        bad.map_or(Ok(()), |(name, value, min, max)| Err(SettingOutOfRange { name, value, min, max }))
    }

    /// The width of the command window, within what the task table can hold.
    pub(crate) fn window(&self) -> u16 {
        self.queue_depth.clamp(1, QUEUE_DEPTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn a_setting_out_of_range_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let error = Settings { outstanding_r2ts_max: 0, ..Settings::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "iSCSI setting outstanding_r2ts_max is 0; give 1 to 65535");
        assert!(Settings { first_burst_bytes_max: 1 << 24, ..Settings::default() }.check().is_err());
    }
}
