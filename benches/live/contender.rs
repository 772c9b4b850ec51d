//! What is measured: each contender takes the same frame from `lan0` to its end, by a program or by the stack.

use aya::{
    Ebpf, TestRun, TestRunAttrs, TestRunOptions,
    maps::{DevMapHash, ProgramArray},
    programs::{ProgramFd, Xdp, loaded_programs},
};
use aya_obj::programs::XdpAttachType;
use miette::{IntoDiagnostic, Result, WrapErr, ensure, miette};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weir::{
    config::Config,
    datapath::{Instance, StartOptions, netdev, objects::BASELINE, rival},
};
use weir_aqm::Rate;
use weir_shared_maps::{CounterId, IngressCounter, PortCounter, names};

use super::{
    bed::{
        Attached, Bed, Counts, FIRST_SUBSCRIBER, LAN, WAN, attach_pass, attach_sink, counts, frame, open, run,
    },
    report::median,
};

/// One NAPI poll.
const BATCH: u32 = 64;
/// Frames of one test run. Its pages are made anew and then used in turn, 64 to a batch, so each loses at most half
/// of its 255 hops; `Turn::check` proves that none ran out.
const FRAMES_PER_CALL: u32 = BATCH * 128;
/// Test runs before those that are measured.
const WARM_UP: u32 = 2;
/// The same where addresses are drawn from [`MANY`]: the state of most subscribers has been in the caches once.
const WARM_UP_SPREAD: u32 = 24;
const FEW: u32 = 10;
const MANY: u32 = 100_000;

/// The contenders, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The price of making a frame and throwing it away.
    Drop,
    /// Redirect, unparsed.
    Redirect,
    /// Parse, FIB lookup, rewrite, redirect.
    Fib,
    /// The same into a devmap entry whose program passes.
    FibEgress,
    /// The same into a devmap entry whose program divides 100 Gbit/s by estimated rates.
    FibCsfq,
    /// weir, the port's ring being the queue, no rate.
    Weir,
    /// weir, a meter and virtual queue of 100 Gbit/s.
    WeirPolicer,
    /// weir, one class of 100 Gbit/s.
    WeirOneClass,
    /// weir, eight classes of 100 Gbit/s with a controller each.
    WeirEightClasses,
    /// weir, one class of 100 Gbit/s that its flows share.
    WeirFairness,
    /// weir with four classes, eight rules on five dimensions, and fairness hashes.
    WeirClasses,
    /// The price of making a frame, sending it to an address drawn at random, and throwing it away.
    SpreadDrop,
    /// weir with 10 subscribers, each frame to one of them; they are looked up, and have no ceiling here.
    WeirFewFound,
    /// The same with 100,000.
    WeirManyFound,
    /// weir with 10 subscribers, each frame to one of them; each has a ceiling, and its part of the class.
    WeirFew,
    /// The same with 100,000.
    WeirMany,
    /// The stack forwards.
    Kernel,
    /// The stack forwards into an HTB class of 100 Gbit/s.
    KernelHtb,
}

impl Contender {
    /// All, the generator first.
    pub const ALL: [Self; 18] = [
        Self::Drop,
        Self::Redirect,
        Self::Fib,
        Self::FibEgress,
        Self::FibCsfq,
        Self::Weir,
        Self::WeirPolicer,
        Self::WeirOneClass,
        Self::WeirEightClasses,
        Self::WeirFairness,
        Self::WeirClasses,
        Self::SpreadDrop,
        Self::WeirFewFound,
        Self::WeirManyFound,
        Self::WeirFew,
        Self::WeirMany,
        Self::Kernel,
        Self::KernelHtb,
    ];

    /// Name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "generator + drop",
            Self::Redirect => "redirect",
            Self::Fib => "FIB + redirect",
            Self::FibEgress => "FIB + redirect + trivial egress",
            Self::FibCsfq => "FIB + redirect + CSFQ",
            Self::Weir => "weir",
            Self::WeirPolicer => "weir, policer",
            Self::WeirOneClass => "weir, 1 class",
            Self::WeirEightClasses => "weir, 8 classes",
            Self::WeirFairness => "weir, 1 class with fair flows",
            Self::WeirClasses => "weir, 4 classes, 8 rules, hashes",
            Self::SpreadDrop => "generator to drawn addresses + drop",
            Self::WeirFewFound => "weir, 10 subscribers without ceilings",
            Self::WeirManyFound => "weir, 100,000 subscribers without ceilings",
            Self::WeirFew => "weir, 10 subscribers",
            Self::WeirMany => "weir, 100,000 subscribers",
            Self::Kernel => "kernel forwarding",
            Self::KernelHtb => "kernel forwarding + HTB",
        }
    }

    /// What made its frames.
    pub fn generator(self) -> Self {
        if self.addresses() == 0 { Self::Drop } else { Self::SpreadDrop }
    }

    /// From how many addresses those of its frames are drawn; 0 where they all go to one.
    fn addresses(self) -> u32 {
        match self {
            Self::WeirFewFound | Self::WeirFew => FEW,
            Self::SpreadDrop | Self::WeirManyFound | Self::WeirMany => MANY,
            Self::Drop
            | Self::Redirect
            | Self::Fib
            | Self::FibEgress
            | Self::FibCsfq
            | Self::Weir
            | Self::WeirPolicer
            | Self::WeirOneClass
            | Self::WeirEightClasses
            | Self::WeirFairness
            | Self::WeirClasses
            | Self::Kernel
            | Self::KernelHtb => 0,
        }
    }
}

/// A contender, its namespace, and what stays attached there from round to round.
pub struct Stage {
    contender: Contender,
    bed: Bed,
    baseline: Option<Program>,
    _attached: Vec<Attached>,
}

impl Stage {
    /// Builds the namespace and loads the baseline's program. weir itself is started in each turn and stopped after
    /// it: its observer's tracepoints see the frames of every namespace, and would be paid for by the others.
    ///
    /// # Errors
    ///
    /// What `ip`, `tc` or the kernel refused.
    pub fn build(contender: Contender) -> Result<Self> {
        let bed = Bed::build()?;
        let (baseline, attached) = bed.inside(|| {
            let mut attached = vec![attach_sink()?];
            let target = netdev::by_name(WAN)?.ifindex;
            let baseline = match contender {
                Contender::Weir
                | Contender::WeirPolicer
                | Contender::WeirOneClass
                | Contender::WeirEightClasses
                | Contender::WeirFairness
                | Contender::WeirClasses
                | Contender::WeirFewFound
                | Contender::WeirManyFound
                | Contender::WeirFew
                | Contender::WeirMany => return Ok((None, attached)),
                Contender::Drop | Contender::SpreadDrop => baseline(names::PROG_BASE_DROP, target, None)?,
                Contender::Redirect => baseline(names::PROG_BASE_REDIRECT, target, None)?,
                Contender::Fib => baseline(names::PROG_BASE_FIB, target, None)?,
                Contender::FibEgress => baseline(names::PROG_BASE_FIB, target, Some(&trivial_egress()?))?,
                Contender::FibCsfq => {
                    let pace = Rate::from_bits_per_second(100_000_000_000).pace();
                    let rival =
                        rival::Program::load(pace.ok_or_else(|| miette!("100 Gbit/s have no pace"))?)?;
                    baseline(names::PROG_BASE_FIB, target, Some(rival.fd()))?
                }
                Contender::Kernel => baseline(names::PROG_BASE_PASS, target, None)?,
                Contender::KernelHtb => {
                    run("tc", &format!("qdisc replace dev {WAN} root handle 1: htb default 10"))?;
                    let class = "classid 1:10 htb rate 100gbit ceil 100gbit quantum 1514";
                    run("tc", &format!("class add dev {WAN} parent 1: {class}"))?;
                    baseline(names::PROG_BASE_PASS, target, None)?
                }
            };
            attached.push(attach_pass()?);
            Ok((Some(baseline), attached))
        })?;
        Ok(Self { contender, bed, baseline, _attached: attached })
    }

    /// Who it is.
    pub fn contender(&self) -> Contender {
        self.contender
    }

    /// One turn: warms up, measures `calls` test runs on one CPU, and proves that every frame took the intended way.
    /// Returns nanoseconds per frame: the median of the test runs, so that those in which the CPU was taken away do
    /// not count.
    ///
    /// # Errors
    ///
    /// Something could not be attached or run, or a frame went astray.
    pub fn turn(&self, calls: u32, cpu: usize) -> Result<f64> {
        let turn = || {
            let started = match self.contender {
                Contender::Weir => Some(weir("mode = \"bottleneck\"\n", 0)?),
                Contender::WeirClasses => Some(weir(CLASSES, 0)?),
                Contender::WeirFewFound => Some(weir(&subscribers("up"), FEW)?),
                Contender::WeirManyFound => Some(weir(&subscribers("up"), MANY)?),
                Contender::WeirFew => Some(weir(&subscribers("down"), FEW)?),
                Contender::WeirMany => Some(weir(&subscribers("down"), MANY)?),
                Contender::WeirPolicer => Some(weir("mode = \"policer\"\nrate = \"100gbit\"\n", 0)?),
                Contender::WeirOneClass => Some(weir(&classes(1, ""), 0)?),
                Contender::WeirEightClasses => Some(weir(&classes(8, ""), 0)?),
                Contender::WeirFairness => Some(weir(&classes(1, "fairness = \"flow\""), 0)?),
                Contender::Drop
                | Contender::Redirect
                | Contender::Fib
                | Contender::FibEgress
                | Contender::FibCsfq
                | Contender::SpreadDrop
                | Contender::Kernel
                | Contender::KernelHtb => None,
            };
            let program = started.as_ref().or(self.baseline.as_ref());
            let program = program.ok_or_else(|| miette!("nothing to run"))?;
            pin(cpu)?;
            let mut turn = Turn {
                contender: self.contender,
                ifindex: netdev::by_name(LAN)?.ifindex,
                program,
                spread: None,
            };
            if self.contender.addresses() > 0 {
                turn.spread = Some(spread(self.contender.addresses(), turn.xdp()?)?);
            }
            turn.call(if turn.spread.is_some() { WARM_UP_SPREAD } else { WARM_UP })?;
            turn.settle();
            let before = turn.state()?;
            let ns = turn.call(calls)?;
            turn.settle();
            turn.check(&before, u64::from(calls) * u64::from(FRAMES_PER_CALL))?;
            Ok(ns)
        };
        self.bed.inside(turn).wrap_err_with(|| format!("contender {}", self.contender.name()))
    }
}

/// One contender at work.
struct Turn<'a> {
    contender: Contender,
    ifindex: u32,
    program: &'a Program,
    /// The generator in front of it.
    spread: Option<Ebpf>,
}

enum Program {
    Baseline(Ebpf, &'static str),
    Weir(Box<(Xdp, Instance)>),
}

/// Counters before the measured calls.
struct State {
    counts: Counts,
    weir: [u64; 4],
}

impl Turn<'_> {
    fn xdp(&self) -> Result<&Xdp> {
        match self.program {
            Program::Weir(weir) => Ok(&weir.0),
            Program::Baseline(ebpf, name) => program(ebpf, name),
        }
    }

    /// Nanoseconds per frame, the median of `calls` test runs. The kernel takes the time (`net/bpf/test_run.c`): the
    /// making of the page pool is not in it, the softirq that drains the ring is.
    fn call(&self, calls: u32) -> Result<f64> {
        let frame = frame();
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> = [0, frame.len() as u32, 0, self.ifindex, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let program = match &self.spread {
            Some(ebpf) => program(ebpf, names::PROG_BASE_SPREAD)?,
            None => self.xdp()?,
        };
        let mut samples = Vec::new();
        for _ in 0..calls {
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: FRAMES_PER_CALL,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            let result = program.test_run(options).into_diagnostic().wrap_err("test run with live frames")?;
            samples.push(result.duration.as_nanos() as f64);
        }
        Ok(median(&samples))
    }

    /// Gives the sink's NAPI the time to empty the ring.
    fn settle(&self) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }

    fn state(&self) -> Result<State> {
        let weir = match self.program {
            Program::Baseline(..) => [0; 4],
            Program::Weir(weir) => {
                let snapshot = weir.1.reader().snapshot()?;
                let ingress = |counter: IngressCounter| {
                    snapshot.ingress.iter().filter_map(|i| i.counters.get(counter.name())).sum::<u64>()
                };
                let port = |counter: PortCounter| {
                    snapshot.ports.iter().filter_map(|p| p.counters.get(counter.name())).sum::<u64>()
                };
                let drops: u64 = snapshot.ports.iter().flat_map(|p| p.drops.values()).sum();
                [
                    ingress(IngressCounter::Received),
                    ingress(IngressCounter::Redirected),
                    port(PortCounter::Sent),
                    drops,
                ]
            }
        };
        Ok(State { counts: counts()?, weir })
    }

    fn check(&self, before: &State, frames: u64) -> Result<()> {
        let after = self.state()?;
        let sunk = after.counts.sunk.wrapping_sub(before.counts.sunk);
        let forwarded = after.counts.forwarded.wrapping_sub(before.counts.forwarded);
        let (expected_sunk, expected_forwarded) = match self.contender {
            Contender::Drop | Contender::SpreadDrop => (0, 0),
            Contender::Redirect
            | Contender::Fib
            | Contender::FibEgress
            | Contender::FibCsfq
            | Contender::Weir
            | Contender::WeirPolicer
            | Contender::WeirOneClass
            | Contender::WeirEightClasses
            | Contender::WeirFairness
            | Contender::WeirClasses
            | Contender::WeirFewFound
            | Contender::WeirManyFound
            | Contender::WeirFew
            | Contender::WeirMany => (frames, 0),
            Contender::Kernel | Contender::KernelHtb => (frames, frames),
        };
        let weir: Vec<u64> = after.weir.iter().zip(before.weir).map(|(a, b)| a.wrapping_sub(b)).collect();
        let expected_weir = match self.program {
            Program::Baseline(..) => vec![0; 4],
            Program::Weir(..) => vec![frames, frames, frames, 0],
        };
        ensure!(
            (sunk, forwarded) == (expected_sunk, expected_forwarded) && weir == expected_weir,
            "of {frames} frames {sunk} reached the far end (expected {expected_sunk}) and {forwarded} were forwarded \
             by the kernel (expected {expected_forwarded}); weir's received, redirected, sent, dropped: {weir:?} \
             (expected {expected_weir:?})"
        );
        Ok(())
    }
}

/// The devmap program that passes.
fn trivial_egress() -> Result<ProgramFd> {
    let mut ebpf = open(&[])?;
    let program = BASELINE.xdp(&mut ebpf, names::PROG_BASE_EGRESS)?;
    program.load().into_diagnostic()?;
    program.fd().into_diagnostic()?.try_clone().into_diagnostic()
}

/// Loads a program of the baseline object, with the port in its devmap, and before the port's ring a program that the
/// devmap's entry keeps loaded.
fn baseline(name: &'static str, target: u32, egress: Option<&ProgramFd>) -> Result<Program> {
    let mut ebpf = open(&[(names::GLOBAL_BASE_TARGET, target)])?;
    let map = ebpf.map_mut(names::MAP_BASE_DEVMAP).ok_or_else(|| miette!("the object has no devmap"))?;
    let mut devmap = DevMapHash::try_from(map).into_diagnostic()?;
    devmap.insert(target, target, egress, 0).into_diagnostic()?;
    BASELINE.xdp(&mut ebpf, name)?.load().into_diagnostic()?;
    Ok(Program::Baseline(ebpf, name))
}

/// A generator that sends frames to `addresses` addresses and goes on with `next`.
fn spread(addresses: u32, next: &Xdp) -> Result<Ebpf> {
    let first = u32::from(FIRST_SUBSCRIBER);
    let mut ebpf = open(&[(names::GLOBAL_BASE_FIRST, first), (names::GLOBAL_BASE_COUNT, addresses)])?;
    let map = ebpf.map_mut(names::MAP_BASE_NEXT).ok_or_else(|| miette!("the object has no program array"))?;
    let mut programs = ProgramArray::try_from(map).into_diagnostic()?;
    programs.set(0, next.fd().into_diagnostic()?, 0).into_diagnostic()?;
    BASELINE.xdp(&mut ebpf, names::PROG_BASE_SPREAD)?.load().into_diagnostic()?;
    Ok(ebpf)
}

fn program<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = ebpf.program(name).ok_or_else(|| miette!("the object has no {name}"))?;
    program.try_into().into_diagnostic()
}

/// A policed port with `count` classes of different priorities and guarantees; the frames are the last one's.
fn classes(count: u32, keys: &str) -> String {
    let class =
        |i| format!("[[port.class]]\nname = \"c{i}\"\npriority = {}\nrate = \"1gbit\"\n{keys}\n", i % 8);
    let classes: String = (0..count).map(class).collect();
    format!("mode = \"policer\"\nrate = \"100gbit\"\n{classes}")
}

/// Rules of which the last matches the frame.
const CLASSES: &str = "[[port.class]]\nname = \"a\"\nfairness = \"host+flow\"\n[[port.class]]\nname = \"b\"\n\
    [[port.class]]\nname = \"c\"\n[[port.class]]\nname = \"d\"\n\
    [[rule]]\nclass = \"a\"\ndscp = \"ef\"\n[[rule]]\nclass = \"a\"\ndscp = \"cs5\"\n\
    [[rule]]\nclass = \"b\"\ndestination_port = 5060\n[[rule]]\nclass = \"b\"\nprotocol = \"tcp\"\ndestination_port = 22\n\
    [[rule]]\nclass = \"c\"\nsource = \"192.0.2.0/24\"\n[[rule]]\nclass = \"c\"\nsource = \"198.51.100.0/24\"\n\
    [[rule]]\nclass = \"c\"\nsize = \"1400..\"\n[[rule]]\nclass = \"d\"\nprotocol = \"udp\"\n";

/// A port towards subscribers whose plan limits the direction `limited`; frames go down.
fn subscribers(limited: &str) -> String {
    format!(
        "subscribers = \"destination\"\n[[plan]]\nname = \"p\"\n{limited} = \"100gbit\"\n\
         [subscribers]\nfile = \"list.csv\"\n"
    )
}

/// Starts weir with one port and `subscribers`, and finds the program that it attached to `lan0`.
fn weir(port: &str, subscribers: u32) -> Result<Program> {
    let text = format!(
        "instance = \"bench-{}\"\n[[ingress]]\ndevice = \"{LAN}\"\n[[port]]\ndevice = \"{WAN}\"\n{port}",
        std::process::id()
    );
    let list = || {
        let first = u32::from(FIRST_SUBSCRIBER);
        let lines = (0..subscribers).map(|i| format!("s{i},{},p\n", std::net::Ipv4Addr::from(first + i)));
        std::iter::once("name,prefixes,plan\n".to_owned()).chain(lines).collect()
    };
    let config = Config::from_toml_str_with("bench.toml", &text, &|_| Ok(list()))?;
    let instance = Instance::start(&config, &StartOptions::default())?;
    let id = netdev::by_name(LAN)?.xdp.ok_or_else(|| miette!("weir attached nothing to {LAN}"))?;
    let info = loaded_programs()
        .filter_map(std::result::Result::ok)
        .find(|info| info.id() == id)
        .ok_or_else(|| miette!("program {id} of {LAN} is gone"))?;
    let program = Xdp::from_program_info(info, names::PROG_INGRESS.into(), XdpAttachType::Interface)
        .into_diagnostic()?;
    Ok(Program::Weir(Box::new((program, instance))))
}

/// Keeps the calling thread on one CPU: its caches, its softirq, its TX ring.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).into_diagnostic()?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .into_diagnostic()
        .wrap_err_with(|| format!("pinning to CPU {cpu}"))
}
