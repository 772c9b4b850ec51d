//! Values out of TOML's tree, each with its type checked and its place in the text.
//!
//! The tree of `toml` is read by hand rather than by a derived deserialiser, because a deserialiser stops at the first
//! wrong type or unknown key, and a file is to be refused with all that is wrong with it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, Source};
use super::nearest::nearest;
use super::rule::Rule;

/// One key of a table.
#[derive(Debug, Default)]
pub enum Field<T> {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file with the wrong type, which has been reported.
    Wrong,
    /// In the file.
    Is(Spanned<T>),
}

impl<T> Field<T> {
    /// The value, where there is one of the right type.
    pub fn get(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Whether the key does not stand in the file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A value of one of the types that a list may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
}

/// A key that takes one value or a list of them.
#[derive(Debug, Default)]
pub enum Items {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file with a wrong type, which has been reported.
    Wrong,
    /// In the file; possibly an empty list.
    Are {
        /// The values.
        values: Vec<Spanned<Scalar>>,
        /// All of them, brackets included.
        span: Range<usize>,
    },
}

/// Reads the keys of tables and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Reports every key that the table does not have.
    pub(super) fn known(
        &mut self,
        place: &str,
        prefix: &str,
        table: &DeTable<'_>,
        keys: &'static [&'static str],
    ) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            let rule = Rule::UnknownKey { allowed: keys.join(", "), nearest: nearest(key.get_ref(), keys) };
            let name = format!("{prefix}{}", key.get_ref());
            self.problems.push(self.source.key_problem(place, &name, key.span(), rule));
        }
    }

    pub(super) fn text(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<String> {
        let read = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        self.field(place, key, table, ("a string", example), read)
    }

    pub(super) fn boolean(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<bool> {
        self.field(place, key, table, ("true or false", example), |value| value.as_bool())
    }

    pub(super) fn integer(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<i64> {
        self.field(place, key, table, ("an integer of at most 64 bits", example), integer)
    }

    pub(super) fn integers(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Vec<Spanned<i64>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(place, key, value, ("an array of integers", example));
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for element in array.iter() {
            match integer(element.get_ref()) {
                Some(number) => numbers.push(Spanned::new(element.span(), number)),
                None => self.wrong(place, key, element, ("an integer", example)),
            }
        }
        numbers
    }

    fn field<T>(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        expected: (&'static str, &'static str),
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Field<T> {
        let Some(value) = table.get(last(key)) else { return Field::Absent };
        match read(value.get_ref()) {
            Some(typed) => Field::Is(Spanned::new(value.span(), typed)),
            None => {
                self.wrong(place, key, value, expected);
                Field::Wrong
            }
        }
    }

    pub(super) fn table<'t, 'i>(
        &mut self,
        place: &str,
        key: &str,
        table: &'t DeTable<'i>,
        header: &'static str,
    ) -> Option<(&'t DeTable<'i>, Range<usize>)> {
        let value = table.get(key)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.wrong(place, key, value, ("a table", header));
        }
        found.map(|found| (found, value.span()))
    }

    /// A string, an integer, or a list of either.
    pub(super) fn items(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        expected: (&'static str, &'static str),
    ) -> Items {
        let Some(value) = table.get(last(key)) else { return Items::Absent };
        let listed = value.get_ref().as_array();
        let elements = listed.map_or_else(|| vec![value], |array| array.iter().collect());
        let mut values = Vec::new();
        for element in elements {
            match scalar(element.get_ref()) {
                Some(scalar) => values.push(Spanned::new(element.span(), scalar)),
                None => {
                    self.wrong(place, key, element, expected);
                    return Items::Wrong;
                }
            }
        }
        Items::Are { values, span: value.span() }
    }

    pub(super) fn tables<'t, 'i>(
        &mut self,
        place: &str,
        key: &str,
        table: &'t DeTable<'i>,
        header: &'static str,
    ) -> Vec<(&'t DeTable<'i>, Range<usize>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(place, key, value, ("an array of tables", header));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => tables.push((table, element.span())),
                None => self.wrong(place, key, element, ("a table", header)),
            }
        }
        tables
    }

    pub(super) fn wrong(
        &mut self,
        place: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        (expected, example): (&'static str, &'static str),
    ) {
        let rule = Rule::WrongType { expected, found: type_name(value.get_ref()), example };
        self.problems.push(self.source.value_problem(place, key, value.span(), rule));
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(integer) if i64::from_str_radix(integer.as_str(), integer.radix()).is_err() => {
            "a larger number"
        }
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The key itself, without the tables that errors name it by.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn scalar(value: &DeValue<'_>) -> Option<Scalar> {
    let text = value.as_str().map(|text| Scalar::Text(text.to_owned()));
    text.or_else(|| integer(value).map(Scalar::Number))
}

/// How errors name one of several tables: by its device or name where it has one, else by its number.
pub(super) fn place(header: &str, key: &str, number: usize, table: &DeTable<'_>) -> String {
    match table.get(key).and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("{header} {name:?}"),
        None => format!("{header} number {}", number + 1),
    }
}
