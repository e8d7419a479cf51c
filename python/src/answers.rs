//! Answers for many recordings as an Arrow column: the struct `maeum.daft.ANSWER`, one row per recording.

use std::sync::Arc;

use arrow_array::ffi::to_ffi;
use arrow_array::{
    Array as _, ArrayRef, Float64Array, Int32Array, LargeListArray, LargeStringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, Field, Fields};
use maeum::Answer;
use maeum::model::ModelInfo;
use maeum::prediction::{Age, Estimate, Prediction, Segment, Window};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

/// Version of the struct. New fields do not change it.
pub const SCHEMA: i32 = 1;

/// Answer for one recording, or code and message of the failure.
pub type Row = Result<Answer, (String, String)>;

/// Struct column that any library of the Arrow C data interface takes.
#[pyclass(frozen, module = "maeum")]
pub struct AnswerColumn(pub StructArray);

#[pymethods]
impl AnswerColumn {
    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Returns capsules of the schema and of the array, which share the column's memory. A requested schema is not
    /// applied, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema;
        let (array, schema) = to_ffi(&self.0.to_data()).map_err(|e| crate::input_error(&e))?;
        // The names are those of the interface; its consumers check them.
        let schema = PyCapsule::new_with_value(py, schema, c"arrow_schema")?;
        let array = PyCapsule::new_with_value(py, array, c"arrow_array")?;
        PyTuple::new(py, [schema, array])
    }
}

/// Makes the column of a model's answers.
///
/// # Errors
/// The text of one column exceeds what Arrow can address.
pub fn column(rows: &[Row], model: &ModelInfo, identity: &str) -> Result<StructArray, ArrowError> {
    let answers = || rows.iter().map(|row| row.as_ref().ok());
    let predictions: Vec<Option<&Prediction>> = answers().map(|a| Some(a?.prediction())).collect();
    let some = || predictions.iter().copied();
    let failures = || rows.iter().map(|row| row.as_ref().err());
    let segments: Vec<&Segment> = some().flatten().flat_map(|p| &p.segments).collect();
    let windows: Vec<&Window> = some().flatten().flat_map(|p| &p.windows).collect();
    let warnings = some().flatten().flat_map(|p| &p.warnings);

    let json: Vec<Option<String>> = answers().map(|a| Some(a?.to_json())).collect();
    let error = structure(
        vec![
            ("code", texts(failures().map(|f| Some(&*f?.0)))),
            ("message", texts(failures().map(|f| Some(&*f?.1)))),
        ],
        Some(failures().map(|f| f.is_some()).collect()),
    )?;
    structure(
        vec![
            (
                "schema",
                Arc::new(Int32Array::from(vec![SCHEMA; rows.len()])),
            ),
            (
                "emotion",
                texts(answers().map(|a| Some(a?.emotion().label()))),
            ),
            (
                "emotions",
                estimates(some().map(|p| Some(&*p?.emotions)), &model.emotions)?,
            ),
            ("age", ages(some().map(|p| Some(p?.age)))?),
            (
                "gender",
                weights(some().map(|p| Some(&*p?.gender)), &model.genders)?,
            ),
            ("duration", numbers(some().map(|p| Some(p?.voice.duration)))),
            ("voiced", numbers(some().map(|p| Some(p?.voice.voiced)))),
            (
                "segments",
                list(
                    some().map(|p| Some(p?.segments.len())),
                    segment(&segments, model)?,
                )?,
            ),
            (
                "windows",
                list(
                    some().map(|p| Some(p?.windows.len())),
                    window(&windows, model)?,
                )?,
            ),
            (
                "warnings",
                list(
                    some().map(|p| Some(p?.warnings.len())),
                    texts(warnings.map(|w| Some(w.code()))),
                )?,
            ),
            ("model", texts(some().map(|p| p.map(|_| identity)))),
            ("json", texts(json.iter().map(Option::as_deref))),
            ("error", Arc::new(error)),
        ],
        None,
    )
}

/// Struct of each segment.
fn segment(segments: &[&Segment], model: &ModelInfo) -> Result<ArrayRef, ArrowError> {
    let all = || segments.iter();
    let labels = &model.emotions;
    Ok(Arc::new(structure(
        vec![
            ("start", numbers(all().map(|s| Some(s.time.start)))),
            ("end", numbers(all().map(|s| Some(s.time.end)))),
            ("voiced", numbers(all().map(|s| Some(s.voiced)))),
            (
                "emotion",
                texts(all().map(|s| strongest(&s.emotions, labels))),
            ),
            (
                "emotions",
                estimates(all().map(|s| Some(&*s.emotions)), labels)?,
            ),
            ("age", ages(all().map(|s| Some(s.age)))?),
            (
                "gender",
                weights(all().map(|s| Some(&*s.gender)), &model.genders)?,
            ),
        ],
        None,
    )?))
}

/// Struct of each window.
fn window(windows: &[&Window], model: &ModelInfo) -> Result<ArrayRef, ArrowError> {
    let all = || windows.iter();
    Ok(Arc::new(structure(
        vec![
            ("start", numbers(all().map(|w| Some(w.time.start)))),
            ("end", numbers(all().map(|w| Some(w.time.end)))),
            (
                "emotions",
                weights(all().map(|w| Some(&*w.emotions)), &model.emotions)?,
            ),
        ],
        None,
    )?))
}

/// Label of the largest mean.
fn strongest<'a>(estimates: &[Estimate], labels: &'a [String]) -> Option<&'a str> {
    let named = labels.iter().zip(estimates);
    let largest = named.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    largest.map(|(label, _)| &**label)
}

/// List of `label`, `mean` and `std` of each row.
fn estimates<'a>(
    rows: impl Iterator<Item = Option<&'a [Estimate]>> + Clone,
    labels: &[String],
) -> Result<ArrayRef, ArrowError> {
    labelled(rows, labels, &[("mean", |e| e.mean), ("std", |e| e.std)])
}

/// List of `label` and `weight` of each row.
fn weights<'a>(
    rows: impl Iterator<Item = Option<&'a [f64]>> + Clone,
    labels: &[String],
) -> Result<ArrayRef, ArrowError> {
    labelled(rows, labels, &[("weight", |weight| *weight)])
}

/// Number that an item of a list has under this name.
type Attribute<'n, T> = (&'n str, fn(&T) -> f64);

/// List of `label` and the attributes of each row.
fn labelled<'a, T: 'a>(
    rows: impl Iterator<Item = Option<&'a [T]>> + Clone,
    labels: &[String],
    attributes: &[Attribute<'_, T>],
) -> Result<ArrayRef, ArrowError> {
    let all = || rows.clone().flatten();
    let mut columns = vec![("label", repeated(labels, all().map(<[_]>::len)))];
    for &(name, attribute) in attributes {
        let values = all().flatten().map(|item| Some(attribute(item)));
        columns.push((name, numbers(values)));
    }
    let values = structure(columns, None)?;
    list(rows.map(|row| Some(row?.len())), Arc::new(values))
}

/// `years`, and `low`, `high` and `coverage` of the interval if the model has one.
fn ages(rows: impl Iterator<Item = Option<Age>> + Clone) -> Result<ArrayRef, ArrowError> {
    let interval = || rows.clone().map(|age| age?.interval);
    Ok(Arc::new(structure(
        vec![
            ("years", numbers(rows.clone().map(|age| Some(age?.years)))),
            ("low", numbers(interval().map(|i| Some(i?.low)))),
            ("high", numbers(interval().map(|i| Some(i?.high)))),
            ("coverage", numbers(interval().map(|i| Some(i?.coverage)))),
        ],
        Some(rows.clone().map(|age| age.is_some()).collect()),
    )?))
}

/// Labels from the first on, as many as each row has values.
fn repeated(labels: &[String], lengths: impl Iterator<Item = usize>) -> ArrayRef {
    texts(lengths.flat_map(|n| labels.iter().take(n).map(|label| Some(&**label))))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<LargeStringArray>())
}

fn numbers(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

/// List column of rows with these lengths; `None` is a null.
fn list(
    lengths: impl Iterator<Item = Option<usize>> + Clone,
    values: ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let nulls: NullBuffer = lengths.clone().map(|length| length.is_some()).collect();
    let offsets = OffsetBuffer::from_lengths(lengths.map(Option::unwrap_or_default));
    Ok(Arc::new(LargeListArray::try_new(
        field,
        offsets,
        values,
        Some(nulls),
    )?))
}

fn structure(
    columns: Vec<(&str, ArrayRef)>,
    nulls: Option<NullBuffer>,
) -> Result<StructArray, ArrowError> {
    let field =
        |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Fields = columns.iter().map(field).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    StructArray::try_new(fields, arrays, nulls)
}
