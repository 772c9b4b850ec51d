//! `weir import`: files of other programs, the configurations they become, and the lines that are refused.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Compares with the golden file; `WEIR_BLESS=1` writes it.
fn golden(name: &str, found: &str) {
    let path = file(name);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, found).expect("the golden file is written");
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(found, expected, "{name}");
}

/// What is printed is a configuration that `weir check` accepts; its last line.
fn check(folder: &Path, config: &str) -> String {
    let path = folder.join("weir.toml");
    std::fs::write(&path, config).expect("the configuration is written");
    let output = weir(&["check", "-c", path.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn shaped_devices_become_plans_and_subscribers_in_the_file_or_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = file("ShapedDevices.csv");
    let output = weir(&["import", source.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    golden("ShapedDevices.toml", &text(&output.stdout));
    assert_eq!(check(folder.path(), &text(&output.stdout)), "5 subscribers with 8 prefixes");

    let list = folder.path().join("list.csv");
    let arguments = ["import", source.to_str().expect("UTF-8"), "--csv", list.to_str().expect("UTF-8")];
    let output = weir(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    golden("ShapedDevices.list.csv", &std::fs::read_to_string(&list).expect("the list is written"));
    assert_eq!(check(folder.path(), &text(&output.stdout)), "5 subscribers with 8 prefixes");
}

#[test]
fn the_uci_file_of_sqm_scripts_becomes_policed_ports() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = weir(&["import", file("sqm").to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    golden("sqm.toml", &text(&output.stdout));
    check(folder.path(), &text(&output.stdout));
}

#[test]
fn lines_that_cannot_be_imported_are_named_and_nothing_is_printed() {
    let cases: [(&str, &[&str], &[&str]); 2] = [
        (
            "bad-ShapedDevices.csv",
            &[],
            &[
                ":3: 100.64.0.257: must be an IPv4 or IPv6 address",
                ":4: circuit 3 has neither an IPv4 nor an IPv6 address",
                ":5: Download Min Mbps = \"fast\": must be a number of Mbps",
                ":6: circuit 5: the minimum is above the maximum",
                ":7: circuit 1 has other rates than in its first row",
                ":8: the Circuit ID is empty",
            ],
        ),
        (
            "bad-sqm",
            &["--format", "sqm"],
            &[
                ":1: an option before the first `config queue`",
                ":3: a quote is not closed",
                ":6: neither `config TYPE` nor",
                ":7: a section of type \"interface\"",
            ],
        ),
    ];
    for (name, format, expected) in cases {
        let path = file(name);
        let output = weir(&[&["import", path.to_str().expect("UTF-8")], format].concat());
        let shown = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{shown}");
        for part in expected {
            assert!(shown.contains(&format!("{name}{part}")), "`{name}{part}` is not in\n{shown}");
        }
    }
}

#[test]
fn circuits_that_share_addresses_are_refused_by_name() {
    let output = weir(&["import", file("overlap-ShapedDevices.csv").to_str().expect("UTF-8")]);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("100.64.0.2/32 overlaps 100.64.0.0/24 of subscriber \"A\""), "{shown}");
}

#[test]
fn a_file_of_neither_kind_is_asked_for_its_format() {
    let output = weir(&["import", file("../config.rs").to_str().expect("UTF-8")]);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("neither a ShapedDevices.csv nor a UCI file"), "{shown}");
}
