// What the stand-in compiler gives the stand-in driver.
#pragma once

#define API extern "C" __attribute__((visibility("default")))

// In front of the architecture, a line's end and the source's name.
static const char MARK_OF_CODE[] = "\x7f" "ELF of the stand-in compiler ";
