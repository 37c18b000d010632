//! Outcomes of negotiation, one line per case.

use super::{NegotiationError, OfferedTwice, Offers, Parameters, check_agreed};
use crate::settings::{DigestPolicy, Settings};
use crate::text::TextWriter;

fn settle(ours: &Settings, is_discovery: bool, offers: &str) -> Result<(String, Parameters), NegotiationError> {
    let (mut noted, mut agreed, mut reply) = (Offers::default(), Parameters::default(), TextWriter::default());
    for pair in offers.split_whitespace() {
        let (key, value) = pair.split_once('=').unwrap();
        assert_eq!(noted.note(key, value), Ok(true), "{pair} is not known");
    }
    noted.answer(ours, is_discovery, &mut agreed, &mut reply)?;
    let reply = String::from_utf8(reply.into_bytes()).unwrap();
    Ok((reply.trim_end_matches('\0').replace('\0', " "), agreed))
}

fn answer(offers: &str) -> String {
    settle(&Settings::default(), false, offers).unwrap().0
}

#[test]
fn every_key_is_answered_by_its_rule() {
    let table = [
        // Lists: the first that both know (§6.2.1).
        ("HeaderDigest=None,CRC32C", "HeaderDigest=None"),
        ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C"),
        ("DataDigest=X-other,CRC32C", "DataDigest=CRC32C"),
        ("DataDigest=X-other", "DataDigest=Reject"),
        // Booleans: OR and AND (§13.10, §13.11, §13.18, §13.19).
        ("InitialR2T=Yes", "InitialR2T=Yes"),
        ("InitialR2T=No", "InitialR2T=No"),
        ("ImmediateData=Yes", "ImmediateData=Yes"),
        ("ImmediateData=No", "ImmediateData=No"),
        ("DataPDUInOrder=No", "DataPDUInOrder=Yes"),
        ("DataSequenceInOrder=No", "DataSequenceInOrder=Yes"),
        ("InitialR2T=yes", "InitialR2T=Reject"),
        // Numbers: minimum, or maximum for Time2Wait.
        ("MaxConnections=8", "MaxConnections=1"),
        ("MaxConnections=0", "MaxConnections=Reject"),
        ("MaxBurstLength=16776192", "MaxBurstLength=16776192"),
        ("MaxBurstLength=16777215", "MaxBurstLength=16776704"),
        ("MaxBurstLength=511", "MaxBurstLength=Reject"),
        ("MaxBurstLength=0x40000", "MaxBurstLength=262144"),
        ("FirstBurstLength=65536", "FirstBurstLength=65536"),
        ("FirstBurstLength=16776192 MaxBurstLength=16776192", "MaxBurstLength=16776192 FirstBurstLength=262144"),
        ("MaxBurstLength=4096 FirstBurstLength=65536", "MaxBurstLength=4096 FirstBurstLength=4096"),
        ("FirstBurstLength=1 ", "FirstBurstLength=Reject"),
        ("MaxOutstandingR2T=1", "MaxOutstandingR2T=1"),
        ("MaxOutstandingR2T=65535", "MaxOutstandingR2T=8"),
        ("MaxOutstandingR2T=65536", "MaxOutstandingR2T=Reject"),
        ("DefaultTime2Wait=0", "DefaultTime2Wait=2"),
        ("DefaultTime2Wait=10", "DefaultTime2Wait=10"),
        ("DefaultTime2Wait=3601", "DefaultTime2Wait=Reject"),
        ("DefaultTime2Retain=20", "DefaultTime2Retain=0"),
        ("ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0"),
        ("ErrorRecoveryLevel=3", "ErrorRecoveryLevel=Reject"),
        // RFC 7144.
        ("iSCSIProtocolLevel=2", "iSCSIProtocolLevel=1"),
        ("iSCSIProtocolLevel=0", "iSCSIProtocolLevel=0"),
        ("TaskReporting=FastAbort,RFC3720", "TaskReporting=RFC3720"),
        // Obsolete, but never "NotUnderstood" (§13.25).
        ("IFMarker=Yes OFMarker=No", "IFMarker=No OFMarker=No"),
        ("IFMarkInt=2048~65535", "IFMarkInt=Reject"),
        // Declared, not answered.
        ("MaxRecvDataSegmentLength=262144", ""),
        // Nobody can send a first burst (§13.14).
        (
            "InitialR2T=Yes ImmediateData=No FirstBurstLength=65536",
            "InitialR2T=Yes ImmediateData=No FirstBurstLength=Irrelevant",
        ),
    ];
    for (offers, expected) in table {
        assert_eq!(answer(offers), expected, "{offers}");
    }
}

#[test]
fn results_become_the_parameters_of_the_session() {
    let offers = "HeaderDigest=CRC32C DataDigest=CRC32C,None InitialR2T=No ImmediateData=No \
                  MaxRecvDataSegmentLength=65536 MaxBurstLength=1048576 FirstBurstLength=131072 \
                  MaxOutstandingR2T=4 DefaultTime2Wait=5 DefaultTime2Retain=0";
    let (_, agreed) = settle(&Settings::default(), false, offers).unwrap();
    let expected = Parameters {
        header_digest: true,
        data_digest: true,
        receive_segment_bytes_max: 8192,
        send_segment_bytes_max: 65536,
        burst_bytes_max: 1 << 20,
        first_burst_bytes_max: 131_072,
        initial_r2t: false,
        immediate_data: false,
        outstanding_r2ts_max: 4,
        time2wait: 5,
        time2retain: 0,
    };
    assert_eq!(agreed, expected);
}

#[test]
fn keys_of_scsi_mean_nothing_in_a_discovery_session() {
    let (reply, agreed) =
        settle(&Settings::default(), true, "HeaderDigest=None InitialR2T=No MaxBurstLength=512").unwrap();
    assert_eq!(reply, "HeaderDigest=None InitialR2T=Irrelevant MaxBurstLength=Irrelevant");
    assert_eq!(agreed, Parameters::default());
}

#[test]
fn a_digest_that_the_settings_ask_for_is_insisted_on() {
    let required = Settings { header_digest: DigestPolicy::Required, ..Settings::default() };
    assert_eq!(settle(&required, false, "HeaderDigest=None,CRC32C").unwrap().0, "HeaderDigest=CRC32C");
    assert_eq!(settle(&required, false, "HeaderDigest=None"), Err(NegotiationError::Digest));
    assert_eq!(check_agreed(&required, &Parameters::default()), Err(NegotiationError::Digest));
    let off = Settings { data_digest: DigestPolicy::Off, ..Settings::default() };
    assert_eq!(settle(&off, false, "DataDigest=CRC32C,None").unwrap().0, "DataDigest=None");
    assert_eq!(settle(&off, false, "DataDigest=CRC32C"), Err(NegotiationError::Digest));
    assert_eq!(check_agreed(&off, &Parameters::default()), Ok(()));
}

#[test]
fn a_smaller_burst_takes_the_first_burst_along() {
    let (_, agreed) = settle(&Settings::default(), false, "MaxBurstLength=4096").unwrap();
    assert_eq!(agreed.first_burst_bytes_max, 4096);
}

#[test]
fn an_impossible_declaration_ends_the_login() {
    let error = settle(&Settings::default(), false, "MaxRecvDataSegmentLength=100");
    assert_eq!(error, Err(NegotiationError::Declaration("MaxRecvDataSegmentLength")));
}

#[test]
fn a_key_is_offered_once() {
    let mut offers = Offers::default();
    assert_eq!(offers.note("InitialR2T", "Yes"), Ok(true));
    assert_eq!(offers.note("InitialR2T", "Yes"), Err(OfferedTwice));
    assert_eq!(offers.note("X-unknown", "1"), Ok(false));
}

#[test]
fn in_full_feature_phase_only_the_segment_length_may_change() {
    let (mut offers, mut agreed, mut reply) = (Offers::default(), Parameters::default(), TextWriter::default());
    offers.note("MaxRecvDataSegmentLength", "4096").unwrap();
    offers.note("MaxBurstLength", "4096").unwrap();
    offers.answer_in_full_feature(&mut agreed, &mut reply).unwrap();
    assert_eq!(reply.as_bytes(), b"MaxBurstLength=Reject\0");
    assert_eq!(agreed, Parameters { send_segment_bytes_max: 4096, ..Parameters::default() });
}
