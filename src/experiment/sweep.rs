//! `[[sweep]]`: one key of the file takes several values; several sweeps make all their combinations.
//!
//! A point of a sweep is the file with the values put in, as text, and checked like any file: a swept value means what it
//! would mean if it were typed.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Context, ExperimentError};
use super::file::RawSweep;
use super::model::Experiment;

/// Most combinations.
const MAX_POINTS: usize = 10_000;

/// One key and its values.
#[derive(Debug, Clone)]
pub struct Axis {
    /// The key's path (`link.rate`, `tcp.0.count`; `tcp.count` is that of every entry).
    pub key: String,
    /// What it takes, as typed.
    pub values: Vec<String>,
    key_span: Range<usize>,
    value_spans: Vec<Range<usize>>,
    /// Where in the file the values go.
    targets: Vec<Range<usize>>,
}

/// One combination.
#[derive(Debug, Clone)]
pub struct Point {
    /// Keys and values, in the order of the sweeps.
    pub settings: Vec<(String, String)>,
    /// The experiment with these.
    pub experiment: Experiment,
}

/// The axes of a file.
pub(super) fn axes(sweeps: &[RawSweep], context: &Context<'_>) -> Result<Vec<Axis>, Box<ExperimentError>> {
    // The text has been read once already: it is TOML.
    let Ok(root) = DeTable::parse(context.text) else { return Ok(Vec::new()) };
    let mut axes: Vec<Axis> = Vec::new();
    let mut points = 1_usize;
    for sweep in sweeps {
        let key = sweep.key.get_ref();
        let fail = |rule: &str| Err(context.error(sweep.key.span(), rule));
        if key.starts_with("sweep") || ["contenders", "seed", "seeds", "name"].contains(&key.as_str()) {
            return fail(&format!("`{key}` cannot be swept"));
        }
        if axes.iter().any(|axis| axis.key == *key) {
            return fail(&format!("`{key}` is swept twice"));
        }
        let mut targets = Vec::new();
        find_in_table(root.get_ref(), key, &mut targets);
        if targets.is_empty() {
            return fail(&format!("the file has no value at `{key}` that a sweep could replace"));
        }
        let spans: Vec<Range<usize>> = sweep.values.get_ref().iter().map(Spanned::span).collect();
        if spans.is_empty() {
            return Err(context.error(sweep.values.span(), "a sweep has at least one value"));
        }
        points = points.saturating_mul(spans.len());
        if points > MAX_POINTS {
            let rule = format!("the sweeps have more than {MAX_POINTS} combinations");
            return Err(context.error(sweep.values.span(), &rule));
        }
        axes.push(Axis {
            key: key.clone(),
            values: spans.iter().map(|span| typed(context.text, span)).collect(),
            key_span: sweep.key.span(),
            value_spans: spans,
            targets,
        });
    }
    Ok(axes)
}

fn typed(text: &str, span: &Range<usize>) -> String {
    text.get(span.clone()).unwrap_or_default().to_owned()
}

/// Adds the places of the values at `path`.
fn find_in_table(table: &DeTable<'_>, path: &str, found: &mut Vec<Range<usize>>) {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    for (_, value) in table.iter().filter(|(key, _)| key.get_ref() == name) {
        match rest {
            None => found.push(value.span()),
            Some(rest) => find_in_value(value, rest, found),
        }
    }
}

fn find_in_value(value: &Spanned<DeValue<'_>>, path: &str, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, path, found),
        DeValue::Array(entries) => {
            let (index, rest) =
                path.split_once('.').map_or((path, None), |(index, rest)| (index, Some(rest)));
            match (index.parse::<usize>(), rest) {
                (Ok(index), Some(rest)) => {
                    if let Some(entry) = entries.get(index) {
                        find_in_value(entry, rest, found);
                    }
                }
                (Ok(_), None) => {}
                (Err(_), _) => entries.iter().for_each(|entry| find_in_value(entry, path, found)),
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}

impl Experiment {
    /// Whether a sweep varies `key`.
    #[must_use]
    pub fn sweeps(&self, key: &str) -> bool {
        self.sweep.iter().any(|axis| axis.key == key)
    }

    /// All combinations of the sweeps, the last sweep's values changing fastest; one without settings where nothing is
    /// swept.
    ///
    /// # Errors
    /// [`ExperimentError`] at the swept value that breaks a rule, or that the simulator does not have.
    pub fn points(&self) -> Result<Vec<Point>, Box<ExperimentError>> {
        if self.sweep.is_empty() {
            return Ok(vec![Point { settings: Vec::new(), experiment: self.clone() }]);
        }
        let count: usize = self.sweep.iter().map(|axis| axis.values.len()).product();
        (0..count).map(|index| self.point(index)).collect()
    }

    fn point(&self, mut index: usize) -> Result<Point, Box<ExperimentError>> {
        // Which value each axis has, in the order of the axes.
        let mut chosen = Vec::with_capacity(self.sweep.len());
        for axis in self.sweep.iter().rev() {
            chosen.push((axis, index % axis.values.len().max(1)));
            index /= axis.values.len().max(1);
        }
        chosen.reverse();
        let settings: Vec<(String, String)> = chosen
            .iter()
            .filter_map(|(axis, value)| Some((axis.key.clone(), axis.values.get(*value)?.clone())))
            .collect();
        let (text, replaced) = self.replace(&chosen);
        let checked = Self::parse(&self.file, &text)
            .and_then(|experiment| experiment.check_for_simulator().map(|()| experiment));
        let mut experiment = checked.map_err(|error| self.blame(&error, &chosen, &settings, &replaced))?;
        // Claims have places in the file as it is, and its text is what a reader of a report wants to see.
        experiment.claims.clone_from(&self.claims);
        experiment.source.clone_from(&self.source);
        Ok(Point { settings, experiment })
    }

    /// The file with the chosen values, and where in it they are.
    fn replace(&self, chosen: &[(&Axis, usize)]) -> (String, Vec<(Range<usize>, usize)>) {
        let mut places: Vec<(&Range<usize>, usize, &str)> = Vec::new();
        for (position, (axis, value)) in chosen.iter().enumerate() {
            let value = axis.values.get(*value).map_or("", String::as_str);
            places.extend(axis.targets.iter().map(|target| (target, position, value)));
        }
        places.sort_by_key(|(target, _, _)| target.start);
        let (mut text, mut replaced, mut from) = (String::new(), Vec::new(), 0);
        for (target, position, value) in places {
            text.push_str(self.source.get(from..target.start).unwrap_or_default());
            replaced.push((text.len()..text.len() + value.len(), position));
            text.push_str(value);
            from = target.end;
        }
        text.push_str(self.source.get(from..).unwrap_or_default());
        (text, replaced)
    }

    /// The same error at the swept value that caused it: the file without its sweeps is right.
    fn blame(
        &self,
        error: &ExperimentError,
        chosen: &[(&Axis, usize)],
        settings: &[(String, String)],
        replaced: &[(Range<usize>, usize)],
    ) -> Box<ExperimentError> {
        let context = Context { file: &self.file, text: &self.source };
        let with: Vec<String> = settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let ExperimentError::Rule { key, rule, span, .. } = error else {
            return context.error(0..0, &error.to_string());
        };
        let inside =
            |place: &Range<usize>| place.start <= span.start && span.start < place.end.max(place.start + 1);
        let culprit = replaced.iter().find(|(place, _)| inside(place)).and_then(|(_, at)| chosen.get(*at));
        let place = match culprit.or(chosen.first()) {
            Some((axis, value)) if culprit.is_some() => {
                axis.value_spans.get(*value).cloned().unwrap_or(axis.key_span.clone())
            }
            Some((axis, _)) => axis.key_span.clone(),
            None => 0..0,
        };
        context.error(place, &format!("with {}: {key}: {rule}", with.join(", ")))
    }
}
