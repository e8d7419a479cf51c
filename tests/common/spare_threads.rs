//! Spare threads must not change a prediction.

use std::path::Path;

use maeum::Recognizer;
use maeum::audio::decode::decode_path;
use maeum::nn::DropoutMode;

/// Compares the prediction of one thread with that of several.
pub fn check(recognizer: &Recognizer, recording: &Path) {
    let recording = decode_path(recording).unwrap();
    let draws = DropoutMode::draws(3, 1);
    let alone = recognizer
        .worker()
        .recognize(&recording, "voice", &draws)
        .unwrap();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let mut worker = recognizer.worker().with_spare_threads();
        let shared = pool
            .build()
            .unwrap()
            .install(|| worker.recognize(&recording, "voice", &draws))
            .unwrap();
        assert_eq!(alone, shared, "{threads} threads");
    }
}
