//! Commands that the documents tell people to type must exist.

use std::{collections::BTreeSet, env, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::tool::{cargo, root, run};

/// Commands in the `sh` blocks of a Markdown text, one a line, without comments.
fn commands(markdown: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in markdown.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && matches!(language.trim(), "sh" | "bash" | "console" | "shell");
            continue;
        }
        let command = line.split(" #").next().unwrap_or_default().trim();
        if inside && !command.is_empty() && !command.starts_with('#') {
            found.push(command.trim_start_matches("$ ").trim_start_matches("sudo ").to_owned());
        }
    }
    found
}

/// Checks every command of README.md: sub-commands by their `--help`, files of the repository by their presence, the
/// rest by being programs of this machine.
///
/// # Errors
///
/// The first command that does not exist.
pub fn check() -> Result<String> {
    let root = root();
    let text = std::fs::read_to_string(root.join("README.md")).context("reading README.md")?;
    let commands = commands(&text);
    ensure!(!commands.is_empty(), "README.md has no commands");
    run(&mut cargo(&["build", "--quiet", "--package", "weir", "--bin", "weir"]))?;
    let weir = root.join("target/debug/weir");
    let mut asked = BTreeSet::new();
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        exists(&weir, &words, &mut asked).with_context(|| format!("README.md says `{command}`"))?;
        for word in words.iter().filter(|w| w.starts_with("examples/") || w.starts_with("docs/")) {
            ensure!(root.join(word).exists(), "README.md says `{command}`: there is no {word}");
        }
    }
    Ok(format!("{} commands", commands.len()))
}

fn exists(weir: &Path, words: &[&str], asked: &mut BTreeSet<String>) -> Result<()> {
    let (mut command, arguments) = match words {
        ["cargo", "xtask", rest @ ..] => (Command::new(env::current_exe().context("finding xtask")?), rest),
        ["cargo", "run", rest @ ..] => {
            let ours = rest.iter().position(|w| *w == "--").and_then(|at| rest.get(at + 1..));
            (Command::new(weir), ours.unwrap_or_default())
        }
        ["cargo", rest @ ..] => {
            let mut help = cargo(&["help"]);
            help.args(rest.first());
            return quiet(&mut help);
        }
        [program, rest @ ..] if program.rsplit('/').next() == Some("weir") => (Command::new(weir), rest),
        [program, ..] => {
            let path = env::var_os("PATH").unwrap_or_default();
            let found = env::split_paths(&path).any(|directory| directory.join(program).exists());
            ensure!(found || root().join(program).exists(), "no program {program}");
            return Ok(());
        }
        [] => return Ok(()),
    };
    // The help of the innermost sub-command, which must list every option of the line.
    let is_word = |w: &&&str| w.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !w.starts_with('-');
    command.args(arguments.iter().take_while(is_word)).arg("--help");
    if !asked.insert(arguments.join(" ")) {
        return Ok(());
    }
    let output = command.output().context("asking for help")?;
    ensure!(
        output.status.success(),
        "`--help` of it fails: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let help = String::from_utf8_lossy(&output.stdout);
    for option in arguments.iter().take_while(|w| **w != "--").filter(|w| w.starts_with('-')) {
        ensure!(help.contains(option), "it has no option {option}");
    }
    Ok(())
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run it")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_the_lines_of_shell_blocks_without_comments() {
        let text = "x\n```sh\ncargo test --workspace   # all\n# no\n\n$ sudo weir status\n```\n```toml\na = 1\n```\n```\nb\n```\n";
        assert_eq!(commands(text), ["cargo test --workspace", "weir status"]);
    }
}
