//! Colours and fonts.

/// How many emotions have a colour of their own; further ones begin again.
pub const COLOURS: usize = 7;
/// Font sizes in pixels, as in [`STYLE`].
pub const TITLE_SIZE: f64 = 20.0;
pub const TEXT_SIZE: f64 = 13.0;
pub const SMALL_SIZE: f64 = 12.0;

/// The colours of areas and bars are those of Okabe and Ito, "Color Universal Design" (2008), which
/// people with any kind of colour vision tell apart; the letters on them have a contrast of 4.5 or
/// more. Every rule is bound to the picture's own class, so that it may stand inside a page.
pub const STYLE: &str = "\
.maeum{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','Noto Sans CJK KR','DejaVu Sans',sans-serif;font-size:13px}
.maeum text{fill:#1b1f24}
.maeum .title{font-size:20px;font-weight:600}
.maeum .head{font-weight:600}
.maeum .small{font-size:12px;fill:#57606a}
.maeum .warn{fill:#8a3b00}
.maeum .back{fill:#fff}
.maeum .plot{fill:#f1f3f5}
.maeum .part{fill:#d3d9df}
.maeum .speech{fill:#3d4752}
.maeum .attention{fill:#3d4752}
.maeum .grid{stroke:#57606a;stroke-opacity:.35;fill:none}
.maeum .whisker{stroke:#1b1f24;stroke-width:1.5;fill:none}
.maeum .halo{stroke:#fff;stroke-width:4;stroke-linecap:square;fill:none}
.maeum .area{stroke:#fff;stroke-width:1;stroke-linejoin:round}
.maeum .c0{fill:#e69f00}
.maeum .c1{fill:#56b4e9}
.maeum .c2{fill:#009e73}
.maeum .c3{fill:#f0e442}
.maeum .c4{fill:#0072b2}
.maeum .c5{fill:#d55e00}
.maeum .c6{fill:#cc79a7}
.maeum text.on{fill:#000;font-size:12px}
.maeum text.on4{fill:#fff}
@media (prefers-color-scheme:dark){
.maeum text{fill:#e6e9ec}
.maeum .small{fill:#a3adb8}
.maeum .warn{fill:#ffb27a}
.maeum .back{fill:#14181d}
.maeum .plot{fill:#20262d}
.maeum .part{fill:#3b444e}
.maeum .speech{fill:#c3ccd5}
.maeum .attention{fill:#c3ccd5}
.maeum .grid{stroke:#a3adb8}
.maeum .whisker{stroke:#fff}
.maeum .halo{stroke:#14181d}
.maeum .area{stroke:#14181d}
}
";
