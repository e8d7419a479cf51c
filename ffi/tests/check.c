/* Tests the C interface, under the sanitizers of the compiler:
 *   check RECORDING
 * prints the answer for the recording as JSON, which the caller compares with the program's. */

#include <maeum.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) {                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
            exit(1);                                                         \
        }                                                                    \
    } while (0)

enum { THREADS = 4, CALLS = 3 };

static maeum_recognizer *recognizer;
static unsigned char *voice;
static size_t voice_size;
static const char *OPTIONS = "{\"name\": \"voice.wav\"}";

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file && !fseek(file, 0, SEEK_END));
    long size = ftell(file);
    CHECK(size > 44 && !fseek(file, 0, SEEK_SET));
    voice_size = (size_t)size;
    voice = malloc(voice_size);
    CHECK(voice && fread(voice, 1, voice_size, file) == voice_size);
    fclose(file);
}

/* Checks the status and that the message holds a part; frees the text. */
static void expect(int line, maeum_status status, maeum_text *text, maeum_status wanted, const char *part) {
    const char *content = text ? maeum_text_data(text) : "";
    if (status != wanted || !strstr(content, part) || (text && strlen(content) != maeum_text_size(text))) {
        fprintf(stderr, "line %d: %s instead of %s: %s\n", line, maeum_status_name(status),
                maeum_status_name(wanted), content);
        exit(1);
    }
    maeum_text_free(text);
}

/* Runs a call, in which `text` is the place for its text. */
#define EXPECT(wanted, part, call)                              \
    do {                                                        \
        maeum_text *text = NULL;                                \
        maeum_status status = call;                             \
        expect(__LINE__, status, text, wanted, part);           \
    } while (0)

static void *recognize_often(void *unused) {
    (void)unused;
    char *first = NULL;
    for (int i = 0; i < CALLS; i++) {
        maeum_text *text = NULL;
        CHECK(maeum_recognize(recognizer, voice, voice_size, OPTIONS, &text) == MAEUM_OK);
        if (first) CHECK(!strcmp(first, maeum_text_data(text)));
        else first = strdup(maeum_text_data(text));
        maeum_text_free(text);
    }
    return first;
}

static void arguments(void) {
    maeum_recognizer *none = (maeum_recognizer *)&none;
    EXPECT(MAEUM_BAD_MODEL, "model", maeum_recognizer_new((const uint8_t *)"junk", 4, &none, &text));
    CHECK(!none);
    EXPECT(MAEUM_BAD_MODEL, "model", maeum_recognizer_new((const uint8_t *)"", 0, &none, &text));
    EXPECT(MAEUM_BAD_REQUEST, "recognizer is NULL", maeum_recognizer_new(NULL, 0, NULL, &text));
    CHECK(maeum_recognizer_new(NULL, 0, &none, NULL) == MAEUM_BAD_REQUEST);
    CHECK(maeum_recognize(recognizer, voice, voice_size, NULL, NULL) == MAEUM_BAD_REQUEST);
    EXPECT(MAEUM_BAD_REQUEST, "recognizer is NULL", maeum_recognize(NULL, voice, voice_size, NULL, &text));
    EXPECT(MAEUM_BAD_REQUEST, "recording is NULL", maeum_recognize(recognizer, NULL, 7, NULL, &text));
    EXPECT(MAEUM_UNUSABLE_AUDIO, "empty", maeum_recognize(recognizer, NULL, 0, NULL, &text));
    EXPECT(MAEUM_BAD_REQUEST, "cannot have", maeum_recognize(recognizer, voice, SIZE_MAX, NULL, &text));
    EXPECT(MAEUM_BAD_REQUEST, "UTF-8", maeum_recognize(recognizer, voice, voice_size, "\xff", &text));
    for (const char **wrong = (const char *[]){"{", "[]", "{\"colour\": 1}", "{\"dropout\": 0}", "{\"dropout\": \"on\"}",
                                               "{\"format\": \"xml\"}", "{\"seed\": -1}", "{\"start\": \"x\"}", NULL};
         *wrong; wrong++)
        EXPECT(MAEUM_BAD_REQUEST, "option", maeum_recognize(recognizer, voice, voice_size, *wrong, &text));
    EXPECT(MAEUM_BAD_PROFILE, "profile", maeum_recognize(recognizer, voice, voice_size, "{\"profile\": {}}", &text));
    EXPECT(MAEUM_TOO_LONG, "voice.wav",
           maeum_recognize(recognizer, voice, voice_size, "{\"name\": \"voice.wav\", \"max_seconds\": 1}", &text));
    EXPECT(MAEUM_UNUSABLE_AUDIO, "no \xEF\xBF\xBD sound",
           maeum_recognize(recognizer, voice, 3, "{\"name\": \"no \\u0000 sound\"}", &text));
    maeum_recognizer_free(NULL);
    maeum_profile_builder_free(NULL);
    maeum_text_free(NULL);
    CHECK(!maeum_text_data(NULL) && maeum_text_size(NULL) == 0);
    CHECK(!strcmp(maeum_status_name(MAEUM_NO_SPEECH), "no_speech") && !strcmp(maeum_status_name(-1), "unknown"));
    CHECK(strlen(maeum_version()) > 4);
}

static void samples(void) {
    uint32_t rate;
    memcpy(&rate, voice + 24, sizeof rate);
    size_t frames = (voice_size - 44) / 2;
    int16_t *pcm = malloc(frames * sizeof *pcm);
    float *stereo = malloc(2 * frames * sizeof *stereo);
    CHECK(pcm && stereo);
    memcpy(pcm, voice + 44, frames * sizeof *pcm);
    for (size_t i = 0; i < frames; i++) stereo[2 * i] = stereo[2 * i + 1] = (float)pcm[i] / 32768;
    maeum_text *file = NULL, *same = NULL;
    CHECK(maeum_recognize(recognizer, voice, voice_size, OPTIONS, &file) == MAEUM_OK);
    CHECK(maeum_recognize_pcm16(recognizer, pcm, frames, rate, OPTIONS, &same) == MAEUM_OK);
    CHECK(!strcmp(maeum_text_data(file), maeum_text_data(same)));
    maeum_text_free(file);
    maeum_text_free(same);
    EXPECT(MAEUM_OK, "\"channels\":2", maeum_recognize_float(recognizer, stereo, frames, 2, rate, NULL, &text));
    EXPECT(MAEUM_UNUSABLE_AUDIO, "channels", maeum_recognize_float(recognizer, stereo, frames, 0, rate, NULL, &text));
    EXPECT(MAEUM_BAD_REQUEST, "samples", maeum_recognize_float(recognizer, stereo, SIZE_MAX, 2, rate, NULL, &text));
    EXPECT(MAEUM_BAD_REQUEST, "aligned",
           maeum_recognize_pcm16(recognizer, (const int16_t *)(uintptr_t)((uintptr_t)pcm | 1), 9, rate, NULL, &text));
    EXPECT(MAEUM_UNUSABLE_AUDIO, "rate", maeum_recognize_pcm16(recognizer, pcm, frames, 0, NULL, &text));
    EXPECT(MAEUM_TOO_LONG, "", maeum_recognize_pcm16(recognizer, pcm, frames, rate, "{\"max_seconds\": 1}", &text));
    stereo[9] = NAN;
    EXPECT(MAEUM_UNUSABLE_AUDIO, "finite", maeum_recognize_float(recognizer, stereo, frames, 2, rate, NULL, &text));
    free(pcm);
    free(stereo);
}

static void profiles(void) {
    maeum_profile_builder *builder = maeum_profile_builder_new();
    EXPECT(MAEUM_BAD_PROFILE, "", maeum_profile_builder_finish(builder, recognizer, &text));
    EXPECT(MAEUM_BAD_REQUEST, "format",
           maeum_profile_builder_add(builder, recognizer, voice, voice_size, "{\"format\": \"csv\"}", &text));
    EXPECT(MAEUM_UNUSABLE_AUDIO, "", maeum_profile_builder_add(builder, recognizer, voice, 3, NULL, &text));
    EXPECT(MAEUM_OK, "", maeum_profile_builder_add(builder, recognizer, voice, voice_size, OPTIONS, &text));
    maeum_text *profile = NULL;
    CHECK(maeum_profile_builder_finish(builder, recognizer, &profile) == MAEUM_OK);
    maeum_profile_builder_free(builder);
    char *options = malloc(maeum_text_size(profile) + 64);
    CHECK(options);
    sprintf(options, "{\"format\": \"jsonl\", \"profile\": %s}", maeum_text_data(profile));
    maeum_text_free(profile);
    EXPECT(MAEUM_OK, "\"speaker\":{\"recordings\":1", maeum_recognize(recognizer, voice, voice_size, options, &text));
    free(options);
}

int main(int count, char **paths) {
    CHECK(count == 2);
    load(paths[1]);
    maeum_text *text = NULL;
    CHECK(maeum_recognizer_new(NULL, 0, &recognizer, &text) == MAEUM_OK && recognizer && !text);
    EXPECT(MAEUM_OK, "\"formats\":[", maeum_recognizer_describe(recognizer, &text));
    arguments();
    samples();
    profiles();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, recognize_often, NULL));
    char *first = NULL;
    for (int i = 0; i < THREADS; i++) {
        void *answer = NULL;
        CHECK(!pthread_join(threads[i], &answer));
        if (first) CHECK(!strcmp(first, answer));
        else fputs(first = strdup(answer), stdout);
        free(answer);
    }
    free(first);
    free(voice);
    maeum_recognizer_free(recognizer);
    return 0;
}
