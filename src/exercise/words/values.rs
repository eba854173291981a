//! The values of the exercise language: addresses, payloads, numbers, options.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_saphyr::Spanned;

use crate::exercise::amount::Amount;
use crate::exercise::matching::Expression;
use crate::exercise::plan::{Membership, Payload, PayloadWanted, SocketPlan, SourceFilter, listed};
use crate::exercise::template::Template;
use crate::exercise::words::Words;
use crate::exercise::words::grammar::{DELIVERIES, FILTER_MODES};
use crate::model::address::AddressText;
use crate::model::delivery::{DeliveryChange, Slices, Watermarks, WriteTimeout};
use crate::model::encoding::TextEncoding;
use crate::model::group::GroupAsked;
use crate::model::labels::{self, Labels, MAX_LABELS};
use crate::model::limits::READ_SIZE;
use crate::model::mistake::suggestion;
use crate::model::option::{OptionSpec, OptionType, OptionValue, SocketOption};
use crate::model::payload::{Fill, Pattern, parse_hex};
use crate::model::peers::PeerRule;
use crate::model::refusal::Violation;
use crate::model::socket::{AcceptPolicy, HalfOpenPolicy};
use crate::model::source_filter::FilterAsked;
use crate::model::spec::{Attempts, Retry};
use crate::model::yaml::{Ordered, span};

/// The longest pattern that a file may ask for, in bytes.
const PATTERN_BYTES: u64 = 1 << 20;

/// The hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

impl Words<'_, '_> {
    /// A whole number that must lie in a range.
    pub(super) fn number<T: TryFrom<u64>>(
        &mut self,
        field: &str,
        text: Option<&Spanned<String>>,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        let text = text?;
        let ends = format!("from {} to {}", range.start(), range.end());
        let message = match text.value.parse() {
            Ok(number) if range.contains(&number) => return T::try_from(number).ok(),
            Ok(number) => format!("`{field}` goes {ends}, and this is {number}"),
            Err(_) => format!("`{field}` is a whole number {ends}, and this is `{}`", text.value),
        };
        self.checker.wrong(span(&text.referenced), message);
        None
    }

    /// A number that must be one byte.
    pub(super) fn byte(&mut self, field: &str, text: Option<&Spanned<String>>) -> Option<u8> {
        self.number(field, text, 0..=u8::MAX.into())
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, field: &str, text: Option<&Spanned<String>>) -> Option<bool> {
        let text = text?;
        let value = text.value.parse().ok();
        if value.is_none() {
            let message = format!("`{field}` is true or false, and this is `{}`", text.value);
            self.checker.wrong(span(&text.referenced), message);
        }
        value
    }

    /// A number, or a range of them.
    pub(super) fn amount(&mut self, text: &Spanned<String>) -> Option<Amount> {
        match Amount::parse(&text.value) {
            Ok(amount) => Some(amount),
            Err(problem) => {
                self.checker.wrong(span(&text.referenced), problem);
                None
            }
        }
    }

    /// Numbers that the kernel must know, by their names.
    pub(super) fn amounts(
        &mut self,
        wanted: Option<&Spanned<Ordered<Spanned<String>>>>,
        of: &str,
        known: impl Iterator<Item = &'static str> + Clone,
    ) -> Vec<(&'static str, Amount)> {
        let mut read = Vec::new();
        for (typed, amount) in wanted.iter().flat_map(|wanted| &wanted.value.0) {
            match known.clone().find(|name| *name == typed.value) {
                Some(name) => read.extend(self.amount(amount).map(|amount| (name, amount))),
                None => {
                    let message = format!("`{}` is no number of {of}", typed.value);
                    let help = suggestion(&typed.value, known.clone());
                    self.checker.wrong_with_help(span(&typed.referenced), message, help);
                }
            }
        }
        read
    }

    /// A field that a verb cannot do without.
    pub(super) fn needed<'f>(
        &mut self,
        verb: &str,
        field: &str,
        value: Option<&'f Spanned<String>>,
        at: &Spanned<String>,
    ) -> Option<&'f Spanned<String>> {
        if value.is_none() {
            self.checker.wrong(span(&at.referenced), format!("`{verb}` needs `{field}`"));
        }
        value
    }

    /// An address, checked as far as it is known.
    pub(super) fn address(&mut self, text: &Spanned<String>) -> Template {
        let template = self.checker.template(text);
        // Where nothing is left of a text, what is wrong with it has been told.
        if let Some(literal) = template.literal().filter(|literal| !literal.is_empty() || text.value.is_empty())
            && let Err(problem) = AddressText::parse_with_port(&literal)
        {
            self.checker.wrong(span(&text.referenced), problem.to_string());
        }
        template
    }

    /// The bytes that the step names, in one of the ways to do so.
    pub(super) fn payload(&mut self) -> Option<Payload> {
        let file = self.file;
        let ways = [&file.text, &file.hex, &file.pattern, &file.matches];
        let mut there = ways.into_iter().flatten();
        if let (Some(first), Some(_)) = (there.next(), there.next()) {
            let message = "text, hex, pattern and matches each say what the bytes are: take one of them";
            self.checker.wrong(span(&first.referenced), message);
            return None;
        }
        if let Some(encoding) = file.encoding.as_deref().filter(|_| file.text.is_none()) {
            self.checker.wrong(span(&encoding.referenced), "`encoding` goes with `text`");
        }
        if let Some(crlf) = file.crlf.as_deref().filter(|_| file.text.is_none()) {
            self.checker.wrong(span(&crlf.referenced), "`crlf` goes with `text`");
        }
        if let (Some(stray), None) = (file.seed.as_ref().or(file.pattern_start.as_ref()), &file.pattern) {
            self.checker.wrong(span(&stray.referenced), "`seed` and `pattern_start` go with `pattern`");
        }
        if let Some(text) = &file.text {
            return self.text_payload(text);
        }
        if let Some(hex) = &file.hex {
            return match parse_hex(&hex.value) {
                Ok(bytes) => Some(Payload::Bytes(bytes)),
                Err(problem) => {
                    self.checker.wrong(span(&hex.referenced), problem.to_string());
                    None
                }
            };
        }
        self.pattern()?.bytes().ok().map(Payload::Bytes)
    }

    /// A pattern that has a size.
    fn pattern(&mut self) -> Option<Pattern> {
        let file = self.file;
        let size = self.number("pattern", file.pattern.as_deref(), 1..=PATTERN_BYTES)?;
        Some(Pattern { size, ..self.endless_pattern() })
    }

    fn endless_pattern(&mut self) -> Pattern {
        let file = self.file;
        let seed = self.number("seed", file.seed.as_deref(), 0..=u64::MAX);
        let start = self.number("pattern_start", file.pattern_start.as_deref(), 0..=u64::MAX).unwrap_or(0);
        Pattern { size: 0, start, fill: seed.map_or(Fill::Counting, Fill::Random) }
    }

    /// What all that a new socket receives is compared with: `verify: true`, and the words for a pattern, which is endless without a size.
    pub(super) fn verify(&mut self) -> Option<Pattern> {
        let file = self.file;
        let Some(typed) = file.verify.as_deref() else {
            if let Some(stray) = [&file.pattern, &file.seed, &file.pattern_start].into_iter().flatten().next() {
                self.checker.wrong_with_help(
                    span(&stray.referenced),
                    "a new socket has no bytes",
                    "with `verify: true` it compares what it receives with that pattern",
                );
            }
            return None;
        };
        if !self.switch("verify", Some(typed))? {
            return None;
        }
        if file.pattern.is_some() { self.pattern() } else { Some(self.endless_pattern()) }
    }

    /// What the step says of bytes that are received.
    pub(super) fn payload_wanted(&mut self) -> PayloadWanted {
        PayloadWanted { bytes: self.payload(), matches: self.expression(), sha256: self.sha256() }
    }

    /// A regular expression, checked as far as it is known.
    fn expression(&mut self) -> Option<Template> {
        let typed = self.file.matches.as_deref()?;
        let template = self.checker.template(typed);
        if let Err(problem) = Expression::of(&template, |_| Some("x".to_owned())) {
            let message = format!("`{}` is no regular expression: {problem}", typed.value);
            self.checker.wrong(span(&typed.referenced), message);
        }
        Some(template)
    }

    /// A SHA-256, checked as far as it is known.
    fn sha256(&mut self) -> Option<Template> {
        let typed = self.file.sha256.as_deref()?;
        let template = self.checker.template(typed);
        if let Some(hash) = template.literal()
            && (hash.len() != SHA256_DIGITS || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()))
        {
            let message = format!("a SHA-256 has {SHA256_DIGITS} hexadecimal digits, and this is `{hash}`");
            self.checker.wrong(span(&typed.referenced), message);
        }
        Some(template)
    }

    /// The caller's own words about a socket.
    pub(super) fn labels(&mut self) -> Labels {
        let Some(typed) = self.file.labels.as_deref() else { return Labels::new() };
        if typed.value.0.len() > MAX_LABELS {
            self.checker.wrong(span(&typed.referenced), format!("a socket has at most {MAX_LABELS} labels"));
        }
        let mut labels = Labels::new();
        for (key, value) in &typed.value.0 {
            if let Err(problem) = labels::check(&key.value, &value.value) {
                self.checker.wrong(span(&key.referenced), problem.to_string());
            }
            labels.insert(key.value.as_str().into(), value.value.as_str().into());
        }
        labels
    }

    /// With whom a socket has connections, checked as far as it is known.
    pub(super) fn peers(&mut self, typed: Option<&Spanned<String>>) -> Option<Template> {
        let typed = typed?;
        let template = self.checker.template(typed);
        if let Some(literal) = template.literal()
            && let Err(problem) = PeerRule::parse_list(&literal)
        {
            self.checker.wrong(span(&typed.referenced), problem.to_string());
        }
        Some(template)
    }

    fn text_payload(&mut self, text: &Spanned<String>) -> Option<Payload> {
        let label = self.file.encoding.as_deref();
        let encoding = match TextEncoding::from_label(label.map_or("", |label| &label.value)) {
            Ok(encoding) => encoding,
            Err(problem) => {
                let at = label.map_or(0..0, |label| span(&label.referenced));
                self.checker.wrong(at, problem.to_string());
                return None;
            }
        };
        let template = self.checker.template(text);
        if let Some(literal) = template.literal()
            && let Err(problem) = encoding.encode(&literal)
        {
            self.checker.wrong(span(&text.referenced), problem.to_string());
            return None;
        }
        let crlf = self.switch("crlf", self.file.crlf.as_deref()).unwrap_or(false);
        Some(Payload::Text(template, encoding, crlf))
    }

    /// What the step says about delivery; nothing if it says nothing.
    pub(super) fn delivery(&mut self) -> Option<DeliveryChange> {
        let file = self.file;
        let change = DeliveryChange {
            mode: self.checker.word(file.delivery.as_deref(), &DELIVERIES),
            paused: self.switch("paused", file.paused.as_deref()),
            read_size: self.number("read_size", file.read_size.as_deref(), 1..=READ_SIZE.into()),
            hash: self.switch("hash", file.hash.as_deref()),
            credit: self.number("credit", file.credit.as_deref(), 1..=u32::MAX.into()),
            read_interval: self.checker.duration(file.read_interval.as_deref()),
        };
        (change != DeliveryChange::default()).then_some(change)
    }

    /// How a write is cut up; nothing where it is not.
    pub(super) fn slices(&mut self) -> Option<Slices> {
        let size = self.number("slice_size", self.file.slice_size.as_deref(), 1..=u32::MAX.into());
        let interval = self.checker.duration(self.file.slice_interval.as_deref());
        let typed = [
            self.file.slice_size.as_deref().map(|size| &size.referenced),
            self.file.slice_interval.as_deref().map(|interval| &interval.referenced),
        ];
        match (typed, size.zip(interval)) {
            ([Some(_), Some(at)], Some((_, interval))) if interval.is_zero() => {
                self.checker.wrong(span(at), "without `slice_interval` the slices are one");
                None
            }
            ([Some(_), Some(_)], slices) => slices.map(|(size, interval)| Slices { size, interval }),
            ([Some(at), None] | [None, Some(at)], _) => {
                self.checker.wrong(span(at), "`slice_size` and `slice_interval` go together");
                None
            }
            ([None, None], _) => None,
        }
    }

    /// How long and how often a connect is tried.
    pub(super) fn attempts(&mut self) -> Attempts {
        let file = self.file;
        let timeout = self.checker.duration(file.attempt_timeout.as_deref());
        let retry = self.retries("retry", file.retry.as_deref(), "retry_interval", file.retry_interval.as_deref());
        let delay = self.checker.duration(file.attempt_delay.as_deref());
        if let Some(at) = file.attempt_delay.as_deref() {
            if delay.is_some_and(|delay| delay < Attempts::LEAST_DELAY) {
                self.checker.wrong(span(&at.referenced), "`attempt_delay` goes from 10ms on");
            } else if file.local.is_some() {
                let message = "attempts that race each other have addresses of their own";
                self.checker.wrong_with_help(span(&at.referenced), message, "leave out `local` or `attempt_delay`");
            }
        }
        Attempts { timeout, retry, delay }
    }

    /// How a bind is tried while somebody else has the address.
    pub(super) fn bind_retry(&mut self) -> Option<Retry> {
        let (often, interval) = (self.file.bind_retry.as_deref(), self.file.bind_retry_interval.as_deref());
        self.retries("bind_retry", often, "bind_retry_interval", interval)
    }

    fn retries(
        &mut self,
        often: &str,
        typed: Option<&Spanned<String>>,
        word: &str,
        typed_interval: Option<&Spanned<String>>,
    ) -> Option<Retry> {
        let attempts = self.number(often, typed, 0..=Retry::MOST_ATTEMPTS.into());
        let interval = self.checker.duration(typed_interval);
        if let Some(at) = typed_interval {
            if typed.is_none() {
                self.checker.wrong(span(&at.referenced), format!("`{word}` goes with `{often}`"));
            } else if interval.is_some_and(|interval| interval < Retry::LEAST_INTERVAL) {
                self.checker.wrong(span(&at.referenced), format!("`{word}` goes from 10ms on"));
            }
        }
        let interval = interval.unwrap_or(Retry::USUAL_INTERVAL);
        attempts.map(|attempts| Retry { attempts, interval })
    }

    /// Delays of what a socket does not do.
    pub(super) fn contradictions(&mut self, socket: &SocketPlan) {
        let file = self.file;
        let delay = file.accept_delay.as_deref().map(|delay| ("accept_delay", &delay.referenced));
        let limit = file.max_accepts.as_deref().map(|limit| ("max_accepts", &limit.referenced));
        if socket.accept == AcceptPolicy::Manual
            && let Some((word, at)) = delay.or(limit)
        {
            self.checker.wrong(span(at), format!("`{word}` is for a listener that accepts by itself"));
        }
        if socket.half_open == HalfOpenPolicy::Allow
            && let Some(delay) = &file.close_delay
        {
            let message = "`close_delay` puts off the answer to the peer's end, and this socket gives none by itself";
            self.checker.wrong_with_help(span(&delay.referenced), message, "with `half_open: auto_end` it does");
        }
    }

    /// When writers are told to stop, and to go on.
    pub(super) fn watermarks(&mut self) -> Watermarks {
        let file = self.file;
        let most = u32::MAX.into();
        let high: Option<u32> = self.number("write_high_watermark", file.write_high_watermark.as_deref(), 0..=most);
        let low: Option<u32> = self.number("write_low_watermark", file.write_low_watermark.as_deref(), 0..=most);
        let marks = Watermarks { high: high.unwrap_or(0), low: low.unwrap_or(0) };
        if let Some(typed) = file.write_low_watermark.as_deref().filter(|_| low.is_some() && marks.low > marks.high) {
            self.checker.wrong(span(&typed.referenced), "`write_low_watermark` goes up to `write_high_watermark`");
        }
        marks
    }

    pub(super) fn write_timeout(&mut self) -> WriteTimeout {
        let file = self.file;
        let closes = self.switch("close_on_write_timeout", file.close_on_write_timeout.as_deref());
        // Each step says by `within` how long it may take.
        WriteTimeout { usual: Duration::ZERO, closes: closes.unwrap_or_default() }
    }

    /// A membership of a multicast group, checked as far as it is known; nothing where none is named.
    pub(super) fn membership(&mut self) -> Option<Membership> {
        let file = self.file;
        let Some(typed) = &file.group else {
            if let Some(stray) = file.interface.as_deref().filter(|_| file.create.is_some()) {
                self.checker.wrong(span(&stray.referenced), "`interface` goes with `group`");
            }
            return None;
        };
        let group = self.checker.template(typed);
        let interface = self.checker.optional_template(file.interface.as_deref());
        let source = self.checker.optional_template(file.source.as_deref());
        let literal = |template: &Option<Template>| template.as_ref().map_or(Some(String::new()), Template::literal);
        // What is put in when it runs is checked then.
        if let (Some(group), Some(interface), Some(source)) = (group.literal(), literal(&interface), literal(&source))
            && let Err(violation) = GroupAsked::read(&group, &interface, &source)
        {
            let at = match violation.field.as_str() {
                "interface" => file.interface.as_deref(),
                "source" => file.source.as_deref(),
                _ => None,
            };
            self.checker.wrong(span(&at.unwrap_or(typed).referenced), violation.problem.to_string());
            return None;
        }
        Some(Membership { group, interface, source })
    }

    /// The sources of a multicast group, checked as far as they are known.
    pub(super) fn source_filter(&mut self) -> Option<SourceFilter> {
        let file = self.file;
        let typed = file.group.as_deref()?;
        let group = self.checker.template(typed);
        let interface = self.checker.optional_template(file.interface.as_deref());
        let mode = self.checker.word(file.mode.as_deref(), &FILTER_MODES)?;
        let sources = self.checker.optional_template(file.sources.as_deref());
        let literal = |template: &Option<Template>| template.as_ref().map_or(Some(String::new()), Template::literal);
        if let (Some(group), Some(interface), Some(sources)) = (group.literal(), literal(&interface), literal(&sources))
            && let Err(violation) = FilterAsked::read(&group, &interface, mode, listed(&sources))
        {
            let at = match violation.field.as_str() {
                "interface" => file.interface.as_deref(),
                "group" => None,
                _ => file.sources.as_deref(),
            };
            self.checker.wrong(span(&at.unwrap_or(typed).referenced), violation.problem.to_string());
            return None;
        }
        Some(SourceFilter { group, interface, mode, sources })
    }

    /// Options to be set.
    pub(super) fn options(&mut self) -> Vec<SocketOption> {
        self.options_as(SocketOption::new)
    }

    /// Options as they should be.
    pub(super) fn options_wanted(&mut self) -> Vec<SocketOption> {
        self.options_as(SocketOption::read)
    }

    fn options_as(&mut self, made: impl Fn(&str, OptionValue) -> Result<SocketOption, Violation>) -> Vec<SocketOption> {
        let Some(options) = &self.file.options else { return Vec::new() };
        let mut read = Vec::new();
        for (name, value) in &options.value.0 {
            let option = option_value(&name.value, &value.value)
                .and_then(|value| made(&name.value, value).map_err(|violation| violation.problem.to_string()));
            match option {
                Ok(option) => read.push(option),
                Err(problem) => {
                    let at = if OptionSpec::find(&name.value).is_ok() { value } else { name };
                    self.checker.wrong(span(&at.referenced), problem);
                }
            }
        }
        read
    }
}

/// The value of an option of a file: `TCP_NODELAY: on`, `SO_RCVBUF: 4096`, `TCP_KEEPIDLE: 30s`.
fn option_value(name: &str, text: &str) -> Result<OptionValue, String> {
    let spec = OptionSpec::find(name).map_err(|violation| violation.problem.to_string())?;
    let number = || text.parse::<i32>().map(OptionValue::Number).map_err(|_| format!("`{text}` is no number"));
    let time = || {
        let time = text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
        time.map(OptionValue::Time).ok_or_else(|| format!("`{text}` is no time, such as 30s or 250ms"))
    };
    Ok(match (spec.kind, text) {
        (OptionType::Enabled | OptionType::Linger, "off" | "false") => OptionValue::Enabled(false),
        (OptionType::Enabled, "on" | "true") => OptionValue::Enabled(true),
        (OptionType::Enabled, _) => return Err(format!("`{text}` is neither on nor off")),
        (OptionType::Number, _) => number()?,
        (kind, _) if kind.unit().is_some() => time()?,
        _ => OptionValue::Text(text.into()),
    })
}
