//! Completions, man pages and the reference, from the command line's own definition.

use std::fmt::Write as _;

use clap_complete::Shell;

use super::{Error, Output, Status, args::CompletionsArguments, command};

/// Prints completions.
pub(super) fn completions(arguments: &CompletionsArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    output.text(&completion_script(arguments.shell))?;
    Ok(Status::Success)
}

/// Prints the main man page.
pub(super) fn man_page(output: &mut Output<'_>) -> Result<Status, Error> {
    for (_, text) in man_pages()?.into_iter().take(1) {
        output.text(&text)?;
    }
    Ok(Status::Success)
}

/// The completion script for one shell.
#[must_use]
pub fn completion_script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "egresswatch", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The man pages by file name, the main one first.
pub fn man_pages() -> std::io::Result<Vec<(String, String)>> {
    let mut main = command().disable_help_flag(true);
    main.build();
    let mut pages = vec![("egresswatch.1".to_owned(), man_text(main.clone())?)];
    add_pages(&mut pages, &main, "egresswatch")?;
    Ok(pages)
}

fn add_pages(pages: &mut Vec<(String, String)>, command: &clap::Command, parent: &str) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{parent}-{}", subcommand.get_name());
        let titled = subcommand.clone().name(name.clone()).display_name(name.clone());
        pages.push((format!("{name}.1"), man_text(titled)?));
        add_pages(pages, subcommand, &name)?;
    }
    Ok(())
}

fn man_text(command: clap::Command) -> std::io::Result<String> {
    let mut text = Vec::new();
    // The date of the build would make the pages differ from day to day.
    clap_mangen::Man::new(command).date("").render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The reference of the command line, in Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "<!-- Made by `cargo run --example generate-docs`; do not edit. -->\n\n# Command line\n\n\
         What `egresswatch --help` and `egresswatch COMMAND --help` print.\n",
    );
    let mut main = command().max_term_width(100).term_width(100);
    main.build();
    section(&mut text, &main, "egresswatch");
    text
}

fn section(text: &mut String, command: &clap::Command, title: &str) {
    let help = command.clone().render_long_help().to_string();
    let _ = writeln!(text, "\n## `{title}`\n\n```text");
    for line in help.trim_end().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        section(text, subcommand, &format!("{title} {}", subcommand.get_name()));
    }
}
