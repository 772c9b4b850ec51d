//! Builds the eBPF objects reproducibly: the same source gives the same bytes in any clone.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};

use crate::tool::root;

/// `bpf-linker` links with the LLVM of the pinned compiler; another version gives other bytes.
const LINKER_VERSION: &str = "0.10.3";
/// The compiler the committed objects were built with.
const RUSTC_VERSION: &str = "1.95.0";
/// (package, binary) of each object.
const OBJECTS: [(&str, &str); 4] = [
    ("weir-ingress", "weir-ingress"),
    ("weir-ingress", "weir-baseline"),
    ("weir-ingress", "weir-rival"),
    ("weir-egress", "weir-egress"),
];

fn output(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(out.status.success(), "{:?} failed: {}", command, String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Builds all objects; with `check` compares them with the committed ones instead of replacing them, and denies warnings.
pub fn run(check: bool) -> Result<()> {
    let root = root();
    toolchain(&root)?;
    let target_dir = root.join("target/bpf");
    let sysroot = output(Command::new("rustc").current_dir(&root).args(["--print", "sysroot"]))?;
    let cargo_home = env::var_os("CARGO_HOME")
        .map_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        remap(&root, "/weir"),
        remap(Path::new(&sysroot), "/rust"),
        remap(&cargo_home, "/cargo"),
    ]
    .join("\u{1f}");
    for package in ["weir-ingress", "weir-egress"] {
        let built = Command::new("cargo")
            .current_dir(&root)
            .args(["build", "--quiet", "--locked", "--profile", "bpf", "--bins", "--features", "bpf"])
            .args([
                "--package",
                package,
                "--target",
                "bpfel-unknown-none",
                "-Zbuild-std=core",
                "--target-dir",
            ])
            .arg(&target_dir)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", &flags)
            .env_remove("RUSTFLAGS")
            .stderr(Stdio::piped())
            .output()
            .context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&built.stderr);
        eprint!("{said}");
        ensure!(built.status.success(), "building the eBPF programs of {package} failed");
        // Cargo repeats the warnings of what it need not build again. Read here, since a flag that denies them would
        // change the build.
        let warned = said.lines().any(|line| line.starts_with("warning"));
        ensure!(!(check && warned), "building the eBPF programs of {package} warns");
    }
    let objects = root.join("src/datapath/objects");
    fs::create_dir_all(&objects)?;
    let mut differing = Vec::new();
    for (_, name) in OBJECTS {
        let built = target_dir.join("bpfel-unknown-none/bpf").join(name);
        let committed = objects.join(format!("{name}.bpf.o"));
        let new = strip(&fs::read(&built)?).with_context(|| format!("{}", built.display()))?;
        let same = fs::read(&committed).is_ok_and(|old| old == new);
        println!("{name}: {} bytes{}", new.len(), if same { ", unchanged" } else { "" });
        if same {
            continue;
        }
        if check {
            differing.push(name);
        } else {
            fs::write(&committed, new)?;
        }
    }
    if !differing.is_empty() {
        bail!(
            "the committed objects do not come from this source: {}; run `cargo xtask bpf` with rustc {RUSTC_VERSION} and bpf-linker {LINKER_VERSION}",
            differing.join(", ")
        );
    }
    Ok(())
}

/// Says what is missing before the compiler does so in a hundred lines.
fn toolchain(root: &Path) -> Result<()> {
    let rustc = output(Command::new("rustc").current_dir(root).arg("--version"))?;
    if !rustc.contains(RUSTC_VERSION) {
        eprintln!("note: the committed objects were built with rustc {RUSTC_VERSION}; this is {rustc}");
    }
    let linker = output(Command::new("bpf-linker").arg("--version")).with_context(|| {
        format!("install it: cargo install bpf-linker --version {LINKER_VERSION} --locked")
    })?;
    if !linker.contains(LINKER_VERSION) {
        eprintln!("note: the committed objects were linked by bpf-linker {LINKER_VERSION}; this is {linker}");
    }
    let sysroot = output(Command::new("rustc").current_dir(root).args(["--print", "sysroot"]))?;
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    ensure!(
        core.exists(),
        "the compiler's library source is missing ({}): rustup component add rust-src",
        core.display()
    );
    Ok(())
}

/// Removes what only a debugger reads; the programs, maps and their BTF stay. In our own code, since the output of
/// `llvm-objcopy` differs between versions.
fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("not an ELF object")?;
    for section in &mut builder.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps section and symbol names in one table; the writer wants one for each.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("cannot write the stripped object")?;
    Ok(stripped)
}
