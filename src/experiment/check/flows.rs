//! The rules of `[[tcp]]`, `[[udp]]`, `[[short]]` and `[[probe]]`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::Result;
use super::link::{at_most, beside};
use super::ports::{self, Ports, Transport};
use crate::experiment::error::Context;
use crate::experiment::file::{
    Common, Key, RawExperiment, RawProbe, RawShort, RawSizes, RawTcp, RawUdp, Time,
};
use crate::experiment::flow::{
    Application, Identity, Pattern, Probe, ScriptedFlow, ShortFlows, Sizes, Span, TcpFlow, UdpEcn, UdpFlow,
};

/// The UDP payload sizes that fit an unfragmented frame of MTU 1,500 and hold the lab's header.
const UDP_PAYLOAD: RangeInclusive<u16> = 24..=1_452;
const MAX_FLOWS: u32 = 256;
/// Most bytes of one flow: a terabyte.
const MAX_BYTES: u64 = 1_000_000_000_000;
/// How much later than `start` a flow starts in the simulator, at most: hosts do not start in the same nanosecond.
const JITTER: Duration = Duration::from_millis(10);
const MAX_JITTER: Duration = Duration::from_secs(10);

pub(super) struct Checker<'a> {
    pub(super) context: &'a Context<'a>,
    /// Of the experiment.
    pub(super) duration: Duration,
    /// Of the link, one way.
    pub(super) delay: Duration,
    pub(super) ports: Ports,
}

/// What all flows of a table have; the identity is the first one's.
struct Shared {
    count: u32,
    span: Span,
    identity: Identity,
}

impl Shared {
    /// Each flow's number in its table, and its identity: the ports follow each other.
    fn each(&self) -> impl Iterator<Item = Identity> {
        (0..self.count).map(|n| {
            let port = self.identity.port.wrapping_add(u16::try_from(n).unwrap_or(0));
            Identity { port, ..self.identity.clone() }
        })
    }
}

impl Checker<'_> {
    pub(super) fn tcp(&self, tables: &[RawTcp]) -> Result<Vec<TcpFlow>> {
        let mut flows = Vec::new();
        for raw in tables {
            let shared = self.shared(&raw.common(), Transport::Tcp, ports::TCP)?;
            let bytes = raw.bytes.as_ref().map(|bytes| *bytes.get_ref());
            if let Some(spanned) = raw.bytes.as_ref().filter(|b| !(1..=MAX_BYTES).contains(b.get_ref())) {
                return self.fail(spanned, "a flow sends between 1 byte and a terabyte");
            }
            let congestion = self.congestion(&raw.congestion)?;
            let (ecn, span) = (raw.ecn.unwrap_or(false), shared.span);
            flows.extend(shared.each().map(|identity| TcpFlow {
                congestion: congestion.clone(),
                span,
                ecn,
                bytes,
                identity,
            }));
        }
        Ok(flows)
    }

    pub(super) fn udp(&self, tables: &[Spanned<RawUdp>]) -> Result<(Vec<UdpFlow>, Vec<ScriptedFlow>)> {
        let (mut flows, mut scripted) = (Vec::new(), Vec::new());
        for table in tables {
            let raw = table.get_ref();
            let shared = self.shared(&raw.common(), Transport::Udp, ports::UDP)?;
            let span = shared.span;
            if let Some(application) = self.application(raw)? {
                scripted.extend(shared.each().map(|identity| ScriptedFlow { application, span, identity }));
                continue;
            }
            let pattern = self.pattern(raw)?;
            let Some(rate) = raw.rate.as_ref().map(|rate| *rate.get_ref()) else {
                return self.fail(table, "a [[udp]] flow has a `rate`");
            };
            let size = self.payload(raw.size.as_ref(), 1_200)?;
            flows.extend(shared.each().map(|identity| UdpFlow { rate, size, span, pattern, identity }));
        }
        Ok((flows, scripted))
    }

    pub(super) fn short(&self, tables: &[RawShort]) -> Result<Vec<ShortFlows>> {
        let mut groups = Vec::new();
        for raw in tables {
            let Shared { count, span, identity } =
                self.shared(&raw.common(), Transport::Tcp, ports::SHORT)?;
            let group = ShortFlows {
                congestion: self.congestion(&raw.congestion)?,
                ecn: raw.ecn.unwrap_or(false),
                interval: self.interval(raw)?,
                sizes: self.sizes(&raw.sizes)?,
                span,
                identity,
            };
            groups.extend((0..count).map(|_| group.clone()));
        }
        Ok(groups)
    }

    pub(super) fn probes(&self, tables: &[RawProbe]) -> Result<Vec<Probe>> {
        let mut probes = Vec::new();
        for raw in tables {
            let interval = raw.interval.get_ref().0;
            if interval < Duration::from_micros(100) || interval > Duration::from_secs(10) {
                return self.fail(&raw.interval, "the interval of probes is between 100us and 10s");
            }
            let identity = Identity {
                name: self.name(&raw.name)?,
                extra_delay: Duration::ZERO,
                host: raw.host.as_ref().map_or(0, |host| *host.get_ref()),
                dscp: self.dscp(&raw.dscp)?,
                port: self.port(&raw.port, Transport::Udp, ports::PROBE, 1)?,
            };
            probes.push(Probe { interval, size: self.payload(raw.size.as_ref(), 64)?, identity });
        }
        Ok(probes)
    }

    fn fail<T, V>(&self, place: &Spanned<V>, rule: &str) -> Result<T> {
        Err(self.context.error(place.span(), rule))
    }

    /// Takes the ports that are typed, before any is given to who typed none.
    pub(super) fn take_ports(&self, raw: &RawExperiment) -> Result<()> {
        let tcp = raw.tcp.iter().map(|tcp| (Transport::Tcp, tcp.common()));
        let udp = raw.udp.iter().map(|udp| (Transport::Udp, udp.get_ref().common()));
        let many = tcp.chain(udp).map(|(transport, common)| (transport, common.port, count(common.count)));
        let short = raw.short.iter().map(|short| (Transport::Tcp, short.common().port, 1));
        let probes = raw.probe.iter().map(|probe| (Transport::Udp, &probe.port, 1));
        for (transport, port, count) in many.chain(short).chain(probes) {
            if let Some(port) = port {
                let taken = self.ports.take(transport, *port.get_ref(), count);
                taken.map_err(|rule| self.context.error(port.span(), rule))?;
            }
        }
        Ok(())
    }

    fn port(&self, key: &Key<u16>, transport: Transport, base: u16, count: u32) -> Result<u16> {
        match key {
            Some(port) => Ok(*port.get_ref()),
            None => self
                .ports
                .give(transport, base, count)
                .ok_or_else(|| self.context.error(0..0, "there are more flows than ports")),
        }
    }

    fn shared(&self, common: &Common<'_>, transport: Transport, base: u16) -> Result<Shared> {
        let span = self.span(common)?;
        let count = count(common.count);
        if let Some(spanned) = common.count.as_ref().filter(|_| !(1..=MAX_FLOWS).contains(&count)) {
            return self.fail(spanned, "the number of flows is between 1 and 256");
        }
        let extra_delay = match (common.rtt, common.extra_delay) {
            (Some(_), Some(extra)) => return self.fail(extra, "a flow has `rtt` or `extra_delay`, not both"),
            (Some(rtt), None) if rtt.get_ref().0 < self.delay * 2 => {
                return self.fail(rtt, "a flow's `rtt` is at least twice `link.delay`");
            }
            (Some(rtt), None) => {
                at_most(self.context, common.rtt, Duration::ZERO, "10s", Duration::from_secs(10))?;
                rtt.get_ref().0 / 2 - self.delay
            }
            (None, extra) => at_most(self.context, extra, Duration::ZERO, "5s", Duration::from_secs(5))?,
        };
        // Short flows share a port: each is a connection of its own.
        let ports = if base == ports::SHORT { 1 } else { count };
        let identity = Identity {
            name: self.name(common.name)?,
            extra_delay,
            host: common.host.as_ref().map_or(0, |host| *host.get_ref()),
            dscp: self.dscp(common.dscp)?,
            port: self.port(common.port, transport, base, ports)?,
        };
        Ok(Shared { count, span, identity })
    }

    fn span(&self, common: &Common<'_>) -> Result<Span> {
        let time = |key: &Key<Time>, default| key.as_ref().map_or(default, |k: &Spanned<Time>| k.get_ref().0);
        let start = time(common.start, Duration::ZERO);
        let stop = time(common.stop, self.duration);
        match (common.start, common.stop) {
            (_, Some(key)) if stop > self.duration => {
                return self.fail(key, "a flow stops at the end of the experiment at the latest");
            }
            (_, Some(key)) if stop <= start => return self.fail(key, "a flow stops after it starts"),
            (Some(key), None) if start >= self.duration => {
                return self.fail(key, "a flow starts before the experiment ends");
            }
            _ => {}
        }
        let jitter = at_most(self.context, common.jitter, JITTER, "10s", MAX_JITTER)?;
        Ok(Span { start, stop, jitter })
    }

    fn dscp(&self, key: &Key<u8>) -> Result<u8> {
        match key {
            Some(dscp) if *dscp.get_ref() > 63 => self.fail(dscp, "a code point is between 0 and 63"),
            key => Ok(key.as_ref().map_or(0, |dscp| *dscp.get_ref())),
        }
    }

    fn name(&self, key: &Key<String>) -> Result<Option<Arc<str>>> {
        match key {
            Some(name) if name.get_ref().trim().is_empty() => self.fail(name, "a name may not be empty"),
            key => Ok(key.as_ref().map(|name| name.get_ref().as_str().into())),
        }
    }

    fn congestion(&self, name: &Spanned<String>) -> Result<String> {
        let text = name.get_ref();
        if text.is_empty() || text.len() > 15 || !text.is_ascii() {
            return self.fail(name, "a congestion control is named by 1 to 15 letters");
        }
        Ok(text.clone())
    }

    fn payload(&self, size: Option<&Spanned<u16>>, default: u16) -> Result<u16> {
        match size {
            None => Ok(default),
            Some(size) if UDP_PAYLOAD.contains(size.get_ref()) => Ok(*size.get_ref()),
            Some(size) => self.fail(size, "a payload has 24 to 1452 bytes"),
        }
    }

    /// The application of a flow that follows one; its packets are its own.
    fn application(&self, raw: &RawUdp) -> Result<Option<Application>> {
        let application = match raw.pattern.as_ref().map(|pattern| pattern.get_ref().as_str()) {
            Some("voip") => Application::Voip,
            Some("gaming") => Application::Gaming,
            Some(_) | None => return Ok(None),
        };
        let own = [
            raw.rate.as_ref().map(Spanned::span),
            raw.size.as_ref().map(Spanned::span),
            raw.ecn.as_ref().map(Spanned::span),
            raw.on.as_ref().map(Spanned::span),
            raw.off.as_ref().map(Spanned::span),
        ];
        if let Some(place) = own.into_iter().flatten().next() {
            let rule = format!("the packets of the pattern `{}` are its own", application.name());
            return Err(self.context.error(place, &rule));
        }
        Ok(Some(application))
    }

    fn pattern(&self, raw: &RawUdp) -> Result<Pattern> {
        let pattern = raw.pattern.as_ref().map(|pattern| pattern.get_ref().as_str());
        if let Some(ecn) = raw.ecn.as_ref().filter(|_| !matches!(pattern, None | Some("constant"))) {
            return self.fail(ecn, "only the pattern `constant` has `ecn`");
        }
        if let Some(time) =
            [&raw.on, &raw.off].into_iter().flatten().next().filter(|_| pattern != Some("on-off"))
        {
            return self.fail(time, "only the pattern `on-off` has `on` and `off`");
        }
        match (&raw.pattern, pattern) {
            (_, None | Some("constant")) => Ok(Pattern::Constant { ecn: self.udp_ecn(raw)? }),
            (_, Some("poisson")) => Ok(Pattern::Poisson),
            (Some(place), Some("on-off")) => match (&raw.on, &raw.off) {
                (Some(on), Some(off)) => {
                    if let Some(zero) = [on, off].into_iter().find(|time| time.get_ref().0.is_zero()) {
                        return self.fail(zero, "it is longer than 0");
                    }
                    Ok(Pattern::OnOff { on: on.get_ref().0, off: off.get_ref().0 })
                }
                _ => self.fail(place, "the pattern `on-off` has `on` and `off`, mean times"),
            },
            (Some(place), Some(other)) => {
                let known = "constant, poisson, on-off, voip, gaming";
                self.fail(place, &format!("`{other}` is no pattern; the patterns are {known}"))
            }
            (None, Some(_)) => Ok(Pattern::Poisson),
        }
    }

    fn udp_ecn(&self, raw: &RawUdp) -> Result<UdpEcn> {
        let Some(spanned) = &raw.ecn else { return Ok(UdpEcn::None) };
        match spanned.get_ref().as_str() {
            "none" => Ok(UdpEcn::None),
            "ect0" => Ok(UdpEcn::Ect0),
            "ect1" => Ok(UdpEcn::Ect1),
            other => self
                .fail(spanned, &format!("`{other}` is no ECN field; it is \"none\", \"ect0\" or \"ect1\"")),
        }
    }

    /// The mean time between two short flows.
    fn interval(&self, raw: &RawShort) -> Result<Duration> {
        match (&raw.interval, &raw.per_second) {
            (Some(_), Some(rate)) => self.fail(rate, "short flows have `interval` or `per_second`, not both"),
            (Some(interval), None) if interval.get_ref().0 < Duration::from_micros(1) => {
                self.fail(interval, "the mean time between short flows is at least 1us")
            }
            (Some(interval), None) => Ok(interval.get_ref().0),
            (None, Some(rate)) if (0.001..=1e6).contains(rate.get_ref()) => {
                Ok(Duration::from_secs_f64(1.0 / rate.get_ref()))
            }
            (None, Some(rate)) => self.fail(rate, "between 0.001 and 1000000 short flows arrive a second"),
            (None, None) => {
                self.fail(&raw.congestion, "short flows have an `interval` between arrivals, or `per_second`")
            }
        }
    }

    fn sizes(&self, sizes: &Spanned<RawSizes>) -> Result<Sizes> {
        match sizes.get_ref() {
            RawSizes::Bytes(bytes) if (1..=MAX_BYTES).contains(bytes) => Ok(Sizes::Fixed(*bytes)),
            RawSizes::Bytes(_) => self.fail(sizes, "a flow sends between 1 byte and a terabyte"),
            RawSizes::Name(name) => match name.as_str() {
                "web-search" => Ok(Sizes::WebSearch),
                "data-mining" => Ok(Sizes::DataMining),
                file if file.ends_with(".csv") => self.points(sizes, &self.csv(sizes, file)?),
                other => {
                    let known = "\"web-search\", \"data-mining\", or the name of a CSV file";
                    self.fail(sizes, &format!("`{other}` is no distribution of sizes; there are {known}"))
                }
            },
            RawSizes::Points(points) => self.points(sizes, points),
        }
    }

    /// Lines of `bytes,share` beside the experiment file.
    fn csv(&self, place: &Spanned<RawSizes>, file: &str) -> Result<Vec<(u64, f64)>> {
        let path = beside(self.context.file, file);
        let fail = |reason: &str| self.context.error(place.span(), &format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| fail(&error.to_string()))?;
        let mut points = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let point = line
                .split_once(',')
                .and_then(|(bytes, share)| Some((bytes.trim().parse().ok()?, share.trim().parse().ok()?)));
            match point {
                Some(point) => points.push(point),
                None => return Err(fail(&format!("line {} is not `bytes,share`", number + 1))),
            }
        }
        Ok(points)
    }

    fn points(&self, place: &Spanned<RawSizes>, points: &[(u64, f64)]) -> Result<Sizes> {
        let rises = points.is_sorted_by(|(a, p), (b, q)| a < b && p < q);
        let whole = points.last().is_some_and(|(_, share)| *share == 1.0);
        let positive = points.first().is_some_and(|(bytes, share)| *bytes > 0 && *share >= 0.0);
        if !(rises && whole && positive) {
            let rule =
                "points of a distribution rise in both columns, from more than 0 bytes to a share of 1";
            return self.fail(place, rule);
        }
        Ok(Sizes::Points(Arc::from(points)))
    }
}

/// How many flows a table has.
fn count(key: &Key<u32>) -> u32 {
    key.as_ref().map_or(1, |count| *count.get_ref())
}
