//! Loads every program through the kernel's verifier, in every specialisation that a configuration can ask for, and
//! compares its cost with the golden numbers of this kernel. Run it by `cargo xtask verify`.

mod golden;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, ProgramInfo, RawTracePoint, SchedClassifier, Xdp},
};
use clap::Parser;
use weir::datapath::objects::{BASELINE, EGRESS, INGRESS, Object, RIVAL};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_MARK, ACTION_SPILL, AQM_CODEL, AQM_NONE, AQM_PI2, AQM_PIE,
    DRIVER_NONE, DRIVER_TUN, DRIVER_VETH, DRIVER_VIRTIO, FRAMING_PTM, MAX_CLASSES, MODE_BOTTLENECK,
    MODE_METER, MODE_POLICER, MODE_VIRTUAL, RINGS_SUMMED, names,
};

use golden::{Cost, Costs, compare, read, show};

const GOLDEN: &str = "tests/golden/verifier.toml";
const AQMS: [(&str, u32); 4] = [("none", AQM_NONE), ("codel", AQM_CODEL), ("pi2", AQM_PI2), ("pie", AQM_PIE)];
const DRIVERS: [(&str, u32); 4] =
    [("none", DRIVER_NONE), ("tun", DRIVER_TUN), ("veth", DRIVER_VETH), ("virtio", DRIVER_VIRTIO)];

/// What a configuration can add to ingress: each part alone, and all together.
const INGRESS_POLICIES: [(&str, &[(&str, u32)]); 5] = [
    ("classes", &[]),
    ("rules", &ALL_RULES),
    ("subscribers", &SUBSCRIBERS),
    ("fairness", &[(names::GLOBAL_HASHES, 7)]),
    (
        "everything",
        &[
            ALL_RULES[0],
            ALL_RULES[1],
            ALL_RULES[2],
            SUBSCRIBERS[0],
            SUBSCRIBERS[1],
            (names::GLOBAL_HASHES, 7),
            PAUSE,
        ],
    ),
];
/// The device is a port whose link partner may pause it, at 10 Gbit/s.
const PAUSE: (&str, u32) = (names::GLOBAL_PAUSE_QUANTUM_PS, 51_200);
const ALL_RULES: [(&str, u32); 3] = [
    (names::GLOBAL_RULES_LOW, u32::MAX),
    (names::GLOBAL_RULES_HIGH, u32::MAX),
    (names::GLOBAL_DIMENSIONS, u32::MAX),
];
const SUBSCRIBERS: [(&str, u32); 2] = [(names::GLOBAL_SUBSCRIBERS, 1), (names::GLOBAL_PLAN_CLASSES, 1)];

/// Actions of ingress that look at the packet alone.
const PLAIN: u32 = 1 << ACTION_MARK | 1 << ACTION_DROP;

#[derive(Parser)]
#[command(
    name = "weir-verify",
    about = "The verifier's cost of every program, against tests/golden/verifier.toml (root)"
)]
struct Args {
    /// Write what was found as the golden numbers of this kernel.
    #[arg(long)]
    bless: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let kernel = kernel()?;
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, |root| root.join(GOLDEN));
    let mut golden = read(&path)?;
    let (costs, refused) = load_all();
    for (name, error) in &refused {
        println!("{name}: the kernel refuses it: {error:#}");
    }
    let Some(reference) = golden.get(&kernel).filter(|_| !args.bless) else {
        for (name, cost) in &costs {
            println!("{name}: {} instructions, {} bytes", cost.instructions, cost.jited_bytes);
        }
        ensure!(
            refused.is_empty(),
            "{} of {} programs do not load",
            refused.len(),
            refused.len() + costs.len()
        );
        if args.bless {
            println!("blessed: {} programs on kernel {kernel}", costs.len());
            golden.insert(kernel, costs);
            std::fs::write(&path, show(&golden)?).with_context(|| path.display().to_string())?;
        } else {
            println!(
                "{} programs load on kernel {kernel}, for which there are no golden numbers",
                costs.len()
            );
        }
        return Ok(ExitCode::SUCCESS);
    };
    let differences = compare(reference, &costs);
    for difference in &differences.fell {
        println!("{difference}");
    }
    for difference in &differences.rose {
        println!("{difference}");
    }
    let failed = refused.len() + differences.rose.len();
    println!(
        "{} programs load on kernel {kernel}, {} refused, {} cost more than the golden numbers say, {} less",
        costs.len(),
        refused.len(),
        differences.rose.len(),
        differences.fell.len()
    );
    if !differences.rose.is_empty() {
        println!("if the rise is wanted: cargo xtask verify --bless, and say why in the commit");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The running kernel's major and minor number.
fn kernel() -> Result<String> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let mut parts = release.trim().split(['.', '-', '+']);
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => bail!("the kernel calls itself {release}"),
    }
}

/// Loads everything; what the kernel refuses does not hide the rest.
fn load_all() -> (Costs, Vec<(String, anyhow::Error)>) {
    let btf = Btf::from_sys_fs().ok();
    let mut costs = Costs::new();
    let mut refused = Vec::new();
    let mut note = |name: String, found: Result<Cost>| match found {
        Ok(cost) => drop(costs.insert(name, cost)),
        Err(error) => refused.push((name, error)),
    };
    for program in [
        names::PROG_BASE_PASS,
        names::PROG_BASE_DROP,
        names::PROG_BASE_REDIRECT,
        names::PROG_BASE_SPREAD,
        names::PROG_BASE_FIB,
        names::PROG_BASE_EGRESS,
    ] {
        note(program.to_owned(), load(&BASELINE, program, &[], btf.as_ref()));
    }
    // 100 Mbit/s. Without a pace there is nothing to verify.
    let pace = [(names::GLOBAL_RIVAL_PACE_MULT, 80 << 25), (names::GLOBAL_RIVAL_PACE_SHIFT, 25)];
    note(names::PROG_RIVAL.to_owned(), load(&RIVAL, names::PROG_RIVAL, &pace, btf.as_ref()));
    for (vlans, meta) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let name = format!("{} vlans={vlans} meta={meta}", names::PROG_INGRESS);
        let globals = [(names::GLOBAL_VLANS, vlans), (names::GLOBAL_META, meta)];
        note(name, load(&INGRESS, names::PROG_INGRESS, &globals, btf.as_ref()));
    }
    let globals = [(names::GLOBAL_VLANS, 1), (names::GLOBAL_META, 1), PAUSE];
    let name = format!("{} vlans=1 meta=1 pause", names::PROG_INGRESS);
    note(name, load(&INGRESS, names::PROG_INGRESS, &globals, btf.as_ref()));
    for (what, policy) in INGRESS_POLICIES {
        let name = format!("{} vlans=1 {what}", names::PROG_INGRESS_POLICY);
        let globals = [&[(names::GLOBAL_VLANS, 1), (names::GLOBAL_META, 2)], policy].concat();
        note(name, load(&INGRESS, names::PROG_INGRESS_POLICY, &globals, btf.as_ref()));
    }
    let (what, everything) = INGRESS_POLICIES[4];
    let name = format!("{} {what}", names::PROG_STACK_CLASSIFY);
    note(name, load(&INGRESS, names::PROG_STACK_CLASSIFY, everything, btf.as_ref()));
    for (what, actions) in [("drop", PLAIN), ("divert", 1 << ACTION_DIVERT), ("spill", 1 << ACTION_SPILL)] {
        let name = format!("{} vlans=1 everything {what}", names::PROG_INGRESS_POLICY);
        let base =
            [(names::GLOBAL_VLANS, 1), (names::GLOBAL_META, 2), (names::GLOBAL_ACTIONS, PLAIN | actions)];
        let globals = [&base, INGRESS_POLICIES[4].1].concat();
        note(name, load(&INGRESS, names::PROG_INGRESS_POLICY, &globals, btf.as_ref()));
    }
    let name = format!("{} vlans=1 meta=1 drop pause", names::PROG_INGRESS);
    let globals = [(names::GLOBAL_VLANS, 1), (names::GLOBAL_META, 1), (names::GLOBAL_ACTIONS, PLAIN), PAUSE];
    note(name, load(&INGRESS, names::PROG_INGRESS, &globals, btf.as_ref()));
    for (mode, aqm, driver) in egress_configurations() {
        let globals =
            [(names::GLOBAL_MODE, mode.1), (names::GLOBAL_AQM, aqm.1), (names::GLOBAL_DRIVER, driver.1)];
        for program in [names::PROG_EGRESS, names::PROG_STACK] {
            let name = format!("{program} mode={} aqm={} driver={}", mode.0, aqm.0, driver.0);
            note(name, load(&EGRESS, program, &globals, btf.as_ref()));
        }
    }
    let name = format!("{} mode=policer aqm=codel driver=tun framing=ptm", names::PROG_EGRESS);
    let globals = [
        (names::GLOBAL_MODE, MODE_POLICER),
        (names::GLOBAL_AQM, AQM_CODEL),
        (names::GLOBAL_DRIVER, DRIVER_TUN),
        (names::GLOBAL_FRAMING, FRAMING_PTM),
    ];
    note(name, load(&EGRESS, names::PROG_EGRESS, &globals, btf.as_ref()));
    for driver in DRIVERS {
        let mode =
            if driver.1 == DRIVER_NONE { ("virtual", MODE_VIRTUAL) } else { ("bottleneck", MODE_BOTTLENECK) };
        for mode in [mode, ("policer", MODE_POLICER)] {
            let globals = [
                (names::GLOBAL_MODE, mode.1),
                (names::GLOBAL_DRIVER, driver.1),
                (names::GLOBAL_CLASSES, MAX_CLASSES),
                (names::GLOBAL_FRAMING, FRAMING_PTM),
            ];
            for program in [names::PROG_POLICY, names::PROG_STACK_POLICY] {
                let name = format!("{program} mode={} driver={}", mode.0, driver.0);
                note(name, load(&EGRESS, program, &globals, btf.as_ref()));
            }
        }
    }
    for driver in DRIVERS.into_iter().filter(|driver| driver.1 != DRIVER_NONE) {
        let globals = [
            (names::GLOBAL_MODE, MODE_BOTTLENECK),
            (names::GLOBAL_DRIVER, driver.1),
            (names::GLOBAL_CLASSES, MAX_CLASSES),
            (names::GLOBAL_RINGS, RINGS_SUMMED),
        ];
        for program in [names::PROG_POLICY, names::PROG_STACK_POLICY] {
            let name = format!("{program} mode=bottleneck driver={} rings=16", driver.0);
            note(name, load(&EGRESS, program, &globals, btf.as_ref()));
        }
    }
    for program in [
        names::PROG_OBSERVER_BTF,
        names::PROG_OBSERVER_RAW,
        names::PROG_STACK_OBSERVER,
        names::PROG_REDIRECT_ERR,
    ] {
        note(program.to_owned(), load(&EGRESS, program, &[], btf.as_ref()));
    }
    for program in [names::PROG_OBSERVER_BTF, names::PROG_OBSERVER_RAW] {
        let globals = [(names::GLOBAL_CLASSES, MAX_CLASSES)];
        note(format!("{program} classes"), load(&EGRESS, program, &globals, btf.as_ref()));
    }
    (costs, refused)
}

type Named = (&'static str, u32);

/// Every combination that `Instance` can ask for: a ring that is the queue needs a driver whose ring can be read.
fn egress_configurations() -> Vec<(Named, Named, Named)> {
    let mut all = vec![(("meter", MODE_METER), ("none", AQM_NONE), ("none", DRIVER_NONE))];
    for aqm in AQMS {
        for driver in DRIVERS {
            let mode = if driver.1 == DRIVER_NONE {
                ("virtual", MODE_VIRTUAL)
            } else {
                ("bottleneck", MODE_BOTTLENECK)
            };
            all.push((mode, aqm, driver));
            all.push((("policer", MODE_POLICER), aqm, driver));
        }
    }
    all
}

/// One program of a fresh copy of the object.
fn load(
    object: &Object,
    name: &'static str,
    globals: &[(&'static str, u32)],
    btf: Option<&Btf>,
) -> Result<Cost> {
    let mut loader = EbpfLoader::new();
    loader.btf(btf);
    for (global, value) in globals {
        loader.override_global(global, value, true);
    }
    let mut ebpf = loader.load(object.bytes).with_context(|| format!("the {} object", object.name))?;
    let info = info(&mut ebpf, name, btf)?;
    Ok(Cost { instructions: info.verified_instruction_count().unwrap_or(0), jited_bytes: info.size_jitted() })
}

fn info(ebpf: &mut Ebpf, name: &'static str, btf: Option<&Btf>) -> Result<ProgramInfo> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
    if let Ok(xdp) = TryInto::<&mut Xdp>::try_into(&mut *program) {
        xdp.load()?;
        return Ok(xdp.info()?);
    }
    if let Ok(classifier) = TryInto::<&mut SchedClassifier>::try_into(&mut *program) {
        classifier.load()?;
        return Ok(classifier.info()?);
    }
    if let Ok(raw) = TryInto::<&mut RawTracePoint>::try_into(&mut *program) {
        raw.load()?;
        return Ok(raw.info()?);
    }
    let traced: &mut BtfTracePoint = program.try_into()?;
    traced.load("xdp_devmap_xmit", btf.context("the kernel has no BTF")?)?;
    Ok(traced.info()?)
}
