//! `POST /`: the interface of the 2020 system and of the related multimodal system.
//!
//! Requests name files on the server's disk, so the route is enabled only for configured folders.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ndarray::{Array1, ArrayView1};
use ndarray_npy::WriteNpyExt;
use utoipa::ToSchema;

use super::errors::{ApiError, ErrorBody};
use super::files::Root;
use super::metrics::AudioSeconds;
use super::recognise::{Recognised, recognise_bytes};
use super::settings::MAX_FORM;
use super::{ServerState, body};
use crate::audio::decode;
use crate::formats::codes::Codes;
use crate::prediction::Prediction;
use crate::recognizer::Worker;

/// Resources of the route.
pub struct Resources {
    /// Writer of the object with numbered keys.
    pub codes: Codes,
    /// Folder of the recordings.
    pub files: Root,
    /// Folder for output arrays.
    pub output: Option<Root>,
}

/// Form fields of the clients of both systems.
#[derive(Debug, ToSchema)]
#[allow(dead_code)] // described here, read by `Paths`
pub struct CompatibleForm {
    /// First part of the path.
    #[schema(required = false)]
    pub path_dir: String,
    /// Second part of the path, appended without a separator.
    #[schema(required = false)]
    pub wav_name: String,
    /// Complete path, instead of the two parts.
    #[schema(required = false)]
    pub input_speech: String,
    /// Path prefix of the written arrays.
    #[schema(required = false)]
    pub output_path: String,
}

/// Paths of a request.
#[derive(Debug, PartialEq)]
struct Paths {
    recording: String,
    output: Option<String>,
}

impl Paths {
    /// Parses the form fields. The first of several fields with the same name counts, as in the
    /// 2020 system.
    fn from_form(fields: Vec<(String, String)>) -> Result<Self, ApiError> {
        let find = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| &**v);
        let missing = |name| {
            ApiError::bad_request(format!(
                "the form field {name} is missing; send path_dir and wav_name, which together are the path of the recording, or input_speech with all of it"
            ))
        };
        let recording = match (find("path_dir"), find("wav_name"), find("input_speech")) {
            (None, None, Some(path)) => path.to_owned(),
            (_, _, Some(_)) => {
                return Err(ApiError::bad_request(
                    "the form has input_speech beside path_dir or wav_name; send one or the other",
                ));
            }
            (None, _, None) => return Err(missing("path_dir")),
            (_, None, None) => return Err(missing("wav_name")),
            (Some(folder), Some(name), None) => format!("{folder}{name}"),
        };
        Ok(Self {
            recording,
            output: find("output_path").map(str::to_owned),
        })
    }
}

/// Recognises a recording on the server's disk, like the 2020 system.
///
/// The server must have been started with `--files-root`.
#[utoipa::path(
    post,
    path = "/",
    tag = "compatible",
    security((), ("key" = [])),
    request_body(content(
        (CompatibleForm = "application/x-www-form-urlencoded"),
        (CompatibleForm = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The object with numbered keys", body = String, content_type = "text/html"),
        (status = 400, description = "A field is missing", body = ErrorBody),
        (status = 401, description = "The key is missing", body = ErrorBody),
        (status = 403, description = "Not switched on, or outside the folder", body = ErrorBody),
        (status = 404, description = "Nothing is there", body = ErrorBody),
        (status = 408, description = "The body arrived too slowly", body = ErrorBody),
        (status = 413, description = "Too large or too long", body = ErrorBody),
        (status = 409, description = "A folder has the name of an array", body = ErrorBody),
        (status = 422, description = "No usable recording", body = ErrorBody),
        (status = 429, description = "Too much to do; `Retry-After` says when to try again", body = ErrorBody),
        (status = 500, description = "A fault of the server or its disk; no array is written", body = ErrorBody),
        (status = 503, description = "Not ready", body = ErrorBody),
        (status = 507, description = "The disk is full; no array is written", body = ErrorBody),
    )
)]
pub async fn recognise(
    State(shared): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    shared.check_ready()?;
    if shared.compatible.is_none() {
        let option = shared.settings.names.files_root;
        return Err(ApiError::forbidden(
            "files_off",
            format!(
                "this server does not read its own disk; start it with {option} FOLDER, or post the recording itself to /v1/audio/emotion"
            ),
        ));
    }
    let times = &shared.settings.times;
    let held = body::read(&headers, body, MAX_FORM, &shared.budget, times).await?;
    let paths = Paths::from_form(body::form(&headers, &held.bytes).await?)?;
    drop(held);
    let state = Arc::clone(&shared);
    let work = move |worker: &mut Worker<'_>| state.recognise_file(worker, &paths);
    let (text, seconds) = shared.pool.run(work).await??;
    let mut response = ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
    response.extensions_mut().insert(AudioSeconds(seconds));
    Ok(response)
}

impl ServerState {
    fn recognise_file(
        &self,
        worker: &mut Worker<'_>,
        paths: &Paths,
    ) -> Result<(String, f64), ApiError> {
        let resources = self
            .compatible
            .as_ref()
            .expect("the handler has checked it");
        if paths.output.is_some() && resources.output.is_none() {
            let option = self.settings.names.write_root;
            return Err(ApiError::forbidden(
                "writing_off",
                format!(
                    "this server does not write files; start it with {option} FOLDER, or leave output_path out"
                ),
            ));
        }
        let settings = &self.settings;
        let bytes = resources.files.read(&paths.recording, settings.max_body)?;
        let Recognised {
            prediction,
            seconds,
        } = recognise_bytes(
            worker,
            &bytes,
            &paths.recording,
            decode::Options {
                limit: settings.limit(),
                channel: None,
            },
            &settings.dropout,
        )?;
        if let (Some(prefix), Some(root)) = (&paths.output, &resources.output) {
            root.write(prefix, &arrays(&resources.codes, &prediction))?;
        }
        Ok((resources.codes.object(&prediction), seconds))
    }
}

/// Returns the NumPy files of the multimodal system, as 64-bit floats without rounding.
fn arrays(codes: &Codes, prediction: &Prediction) -> [(&'static str, Vec<u8>); 3] {
    let npy = |values: &[f64]| {
        let mut bytes = Vec::new();
        let array: Array1<f64> = ArrayView1::from(values).to_owned();
        array
            .write_npy(&mut bytes)
            .expect("memory takes everything");
        bytes
    };
    [
        ("speech_emotion.npy", npy(&codes.emotions(prediction))),
        ("speech_age.npy", npy(&[prediction.age.years])),
        ("speech_gender.npy", npy(&codes.gender(prediction))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(fields: &[(&str, &str)]) -> Result<Paths, String> {
        let fields = fields.iter().map(|&(n, v)| (n.into(), v.into())).collect();
        Paths::from_form(fields).map_err(|e| e.message)
    }

    #[test]
    fn paths_are_joined_without_a_separator() {
        let joined = paths(&[("path_dir", "./"), ("wav_name", "test_dis.wav")]).unwrap();
        assert_eq!(joined.recording, "./test_dis.wav");
        let joined = paths(&[("wav_name", "b"), ("path_dir", "a"), ("path_dir", "c")]).unwrap();
        assert_eq!((&*joined.recording, joined.output), ("ab", None));
        let whole = paths(&[("input_speech", "x/y.wav"), ("output_path", "out_")]).unwrap();
        let wanted = Paths {
            recording: "x/y.wav".into(),
            output: Some("out_".into()),
        };
        assert_eq!(whole, wanted);
    }

    #[test]
    fn missing_fields_are_named() {
        let missing = paths(&[("path_dir", "./")]).unwrap_err();
        assert!(missing.contains("field wav_name is missing"), "{missing}");
        for fields in [&[][..], &[("wav_name", "x")], &[("output_path", "x")]] {
            let missing = paths(fields).unwrap_err();
            assert!(missing.contains("field path_dir is missing"), "{missing}");
        }
        let both = [("input_speech", "a"), ("wav_name", "b")];
        assert!(paths(&both).unwrap_err().contains("one or the other"));
    }
}
