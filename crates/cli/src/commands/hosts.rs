//! What hosts may do with a volume, and how much.

use dyad_api::model::{Access, ChangeAccess, Limits, Right, Volume};

use super::{Session, print_json, volumes};
use crate::args::{self, AccessAction};
use crate::failure::Failure;
use crate::table::{self, Columns, size};

/// The word for every host.
const ALL: &str = "all";

/// Limits a volume, or shows its limits if none is named.
pub fn limit(at: &Session, args: &args::Qos) -> Result<(), Failure> {
    let path = volumes::path(&args.name);
    let mut volume: Volume = at.client.get(&path)?;
    if args.iops.is_some() || args.bandwidth.is_some() || args.burst.is_some() {
        let now = volume.limits;
        let iops = args.iops.unwrap_or(now.iops);
        let bytes_per_second = args.bandwidth.map_or(now.bytes_per_second, |bytes| bytes.value());
        // Where nothing is limited any more there is nothing to save up either.
        let saved_up = if iops == 0 && bytes_per_second == 0 { 0 } else { now.burst_seconds };
        let limits = Limits { iops, bytes_per_second, burst_seconds: args.burst.unwrap_or(saved_up) };
        volume = at.client.put(&format!("{path}/limits"), &limits)?;
    }
    at.tell(&volume, |volume| {
        let told = limits_told(&volume.limits);
        let told = if told.is_empty() { "none".to_owned() } else { told };
        format!("limits of volume {}: {told}\n", volume.name)
    });
    Ok(())
}

/// The limits in words; nothing if there are none.
pub fn limits_told(limits: &Limits) -> String {
    let mut told = Vec::new();
    if limits.iops > 0 {
        told.push(format!("{} commands/s", limits.iops));
    }
    if limits.bytes_per_second > 0 {
        told.push(format!("{}/s", size(limits.bytes_per_second)));
    }
    if limits.burst_seconds > 0 {
        told.push(format!("what {} s did not use is saved up", limits.burst_seconds));
    }
    told.join(", ")
}

/// Lets hosts in or keeps them out, or lists those that may.
pub fn access(at: &Session, args: &args::ChangeAccess) -> Result<(), Failure> {
    let path = volumes::path(&args.name);
    let right = match args.action {
        AccessAction::List if args.host.is_some() || args.read_only => {
            return Err(Failure::Usage("`list` takes the name of the volume and nothing else".into()));
        }
        AccessAction::List => {
            let volume: Volume = at.client.get(&path)?;
            if at.json {
                print_json(&volume.access);
            } else {
                table::print(&list(&volume.access));
            }
            return Ok(());
        }
        AccessAction::Allow if args.read_only => Some(Right::ReadOnly),
        AccessAction::Allow => Some(Right::ReadWrite),
        AccessAction::Deny if args.read_only => {
            return Err(Failure::Usage("--read-only goes with `allow`: who is denied may not read either".into()));
        }
        AccessAction::Deny => None,
    };
    let change = ChangeAccess { initiator: args.host.clone().filter(|host| host != ALL), right };
    let volume: Volume = at.client.patch(&format!("{path}/access"), &change)?;
    at.tell(&volume, |volume| format!("volume {} may be used by: {}\n", volume.name, told(&volume.access)));
    Ok(())
}

/// Who may, in a line.
pub fn told(access: &Access) -> String {
    let read_only = |right: Right| if right == Right::ReadOnly { " (read-only)" } else { "" };
    match access.everybody {
        Some(right) => format!("all{}", read_only(right)),
        None if access.initiators.is_empty() => "nobody".into(),
        None => {
            let grants = access.initiators.iter();
            grants.map(|grant| format!("{}{}", grant.initiator, read_only(grant.right))).collect::<Vec<_>>().join(", ")
        }
    }
}

fn list(access: &Access) -> String {
    let right = |right: Right| if right == Right::ReadOnly { "read-only" } else { "read-write" }.to_owned();
    let mut columns = Columns::new(&["HOST", "RIGHT"]);
    if let Some(every) = access.everybody {
        columns.row([ALL.to_owned(), right(every)]);
    }
    for grant in &access.initiators {
        columns.row([grant.initiator.clone(), right(grant.right)]);
    }
    columns.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyad_api::model::Grant;

    #[test]
    fn who_may_is_said_in_a_line() {
        assert_eq!(told(&Access::default()), "nobody");
        let all = Access { everybody: Some(Right::ReadOnly), ..Access::default() };
        assert_eq!(told(&all), "all (read-only)");
        let grant = |initiator: &str, right| Grant { initiator: initiator.into(), right };
        let two = vec![grant("iqn.x:a", Right::ReadWrite), grant("iqn.x:b", Right::ReadOnly)];
        assert_eq!(told(&Access { initiators: two, ..Access::default() }), "iqn.x:a, iqn.x:b (read-only)");
        let limits = Limits { iops: 200, bytes_per_second: 1 << 20, burst_seconds: 3 };
        assert_eq!(limits_told(&limits), "200 commands/s, 1 MiB/s, what 3 s did not use is saved up");
    }
}
