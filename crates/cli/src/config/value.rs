//! A value of the file, read as what a key wants. Errors are half sentences that follow the key's name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dyad_node::settings::ISCSI_PORT;
use dyad_units::{Bytes, Period};
use toml::de::DeValue;

/// A value as it stands in the file.
pub(super) struct Value<'a>(pub &'a DeValue<'a>);

type Read<T> = Result<T, String>;

impl Value<'_> {
    pub fn text(&self) -> Read<String> {
        self.0.as_str().map(str::to_owned).ok_or_else(|| self.wanted("a text in quotes"))
    }

    pub fn path(&self) -> Read<PathBuf> {
        let path = PathBuf::from(self.text()?);
        if path.is_absolute() { Ok(path) } else { Err(format!("wants an absolute path, not `{}`", path.display())) }
    }

    /// Bytes as a number, or a text with a unit.
    pub fn size(&self) -> Read<Bytes> {
        if self.0.is_integer() {
            return self.number().map(Bytes::new);
        }
        let text = self.0.as_str().ok_or_else(|| self.wanted("a size such as \"64 MiB\""))?;
        text.parse().map_err(|error| format!("wants a size such as \"64 MiB\": {error}"))
    }

    /// A text with a unit: a bare number would be read as seconds by some and as milliseconds by others.
    pub fn period(&self) -> Read<Period> {
        let wanted = || self.wanted("a time with its unit, such as \"10s\" (ms, s, min or h)");
        let text = self.0.as_str().ok_or_else(wanted)?.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
        let (number, unit) = text.split_at(digits);
        let millis: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wanted()),
        };
        let number: u64 = number.parse().map_err(|_| wanted())?;
        // A year: no time-out is longer, and nothing overflows.
        let most = 366 * 24 * 3_600_000;
        let period = number.checked_mul(millis).filter(|&period| period > 0 && period <= most);
        period.map(Period::from_millis).ok_or_else(|| format!("wants a time of 1 ms to a year, not `{text}`"))
    }

    pub fn number(&self) -> Read<u64> {
        let wanted = || self.wanted("a whole number, not negative");
        let integer = self.0.as_integer().ok_or_else(wanted)?;
        let digits = integer.as_str().replace('_', "");
        u64::from_str_radix(digits.trim_start_matches('+'), integer.radix()).map_err(|_| wanted())
    }

    pub fn count(&self) -> Read<u32> {
        self.number()?.try_into().map_err(|_| format!("wants a number of at most {}", u32::MAX))
    }

    /// An address and a port; without port, that of iSCSI.
    pub fn portal(&self) -> Read<SocketAddr> {
        let text = self.text()?;
        let bare = || text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, ISCSI_PORT));
        text.parse()
            .or_else(|_| bare())
            .map_err(|_| format!("wants addresses such as \"192.0.2.1:3260\" or \"[2001:db8::1]:3260\", not `{text}`"))
    }

    pub fn portals(&self) -> Read<Vec<SocketAddr>> {
        match self.0 {
            DeValue::Array(items) => items.iter().map(|item| Value(item.get_ref()).portal()).collect(),
            _ => self.portal().map(|portal| vec![portal]),
        }
    }

    pub fn texts(&self) -> Read<Vec<String>> {
        match self.0 {
            DeValue::Array(items) => items.iter().map(|item| Value(item.get_ref()).text()).collect(),
            _ => self.text().map(|text| vec![text]),
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Read<T> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("wants one of {}, not `{text}`", all.join(", "))
        })
    }

    fn wanted(&self, what: &str) -> String {
        match self.0 {
            DeValue::String(text) => format!("wants {what}, not `{}`", text.chars().take(80).collect::<String>()),
            other => format!("wants {what}, not {}", article(other.type_str())),
        }
    }
}

fn article(kind: &str) -> String {
    if kind.starts_with(['a', 'i']) { format!("an {kind}") } else { format!("a {kind}") }
}
