"""The table of `practicum zeroshot`: in the terminal, and as a page with bars, intervals and pictures."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

COLUMNS = ("data", "split", "classes", "images", "top-1", "95 %", "top-5", "mean per class", "calibration error", "chance")


def text_table(rows: Sequence[dict[str, Any]], clip: str) -> str:
    """Aligned columns, a line per data set."""
    cells = [COLUMNS] + [tuple(cells_of(row)) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in cells]
    return "\n".join([f"zero-shot accuracy of {clip}", *lines])


def cells_of(row: dict[str, Any]) -> list[str]:
    few = row["num_classes"] <= 5        # one of five is always among five
    return [row["data"], row["split"], f"{row['num_classes']:,}", f"{row['num_images']:,}", percent(row["top1"]),
            f"{percent(row['low'])} to {percent(row['high'])}", "" if few else percent(row["top5"]), percent(row["per_class"]),
            f"{row['ece']:.3f}", percent(row["chance"])]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def page(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """A page that needs nothing beside itself; `rows` have "pictures", uint8 [B, C, H, W], with the names "said" and "true"."""
    prompt = "" if len(about["templates"]) == 1 else f" and {len(about['templates']) - 1} more, averaged"
    subtitle = (f"Each picture gets the class whose words, “{about['templates'][0]}”{prompt}, are nearest to it. "
                f"The class names were never trained on as classes.")
    bias = "" if about["bias"] is None else f", bias {about['bias']:.2f}"
    foot = (f"{about['clip']}, weights {about['clip_weights_sha256'][:12]}; {about['loss']}, scale {about['scale']:.2f}{bias}; "
            f"{about['preprocessing']}. Intervals: bootstrap over the pictures. Calibration error: 15 bins.")
    head = "".join(f"<th>{name}</th>" for name in ("data set", "classes", "pictures", "top-1, with chance and 95 % interval", "top-5",
                                                   "mean per class", "calibration error", "the first pictures, and what they are called"))
    body = "".join(row_of(row) for row in rows)
    return PAGE.format(title=html.escape(f"Zero-shot accuracy of {about['clip']}"), subtitle=html.escape(subtitle), head=head, body=body,
                       foot=html.escape(foot), command=html.escape(about["command"]))


def row_of(row: dict[str, Any]) -> str:
    _, _, classes, images, top1, _, top5, per_class, ece, chance = cells_of(row)
    left, wide = 100 * row["low"], 100 * (row["high"] - row["low"])
    bar = (f'<div class="bar" title="{top1}, 95 % {percent(row["low"])} to {percent(row["high"])}; chance {chance}">'
           f'<i style="width:{100 * row["top1"]:.2f}%"></i><u style="left:{left:.2f}%;width:{wide:.2f}%"></u>'
           f'<s style="left:{100 * row["chance"]:.2f}%"></s></div>')
    pictures = "".join(f'<figure class="{"right" if said == true else "wrong"}"><img alt="" src="{data_url(pixels)}" '
                       f'title="{html.escape(true)}"><figcaption>{html.escape(said)}</figcaption></figure>'
                       for pixels, said, true in zip(row["pictures"], row["said"], row["true"], strict=True))
    return (f'<tr><th>{html.escape(row["data"])}<small>{html.escape(row["split"])}</small></th><td>{classes}</td><td>{images}</td>'
            f'<td class="main"><b>{top1}</b>{bar}</td><td>{top5}</td><td>{per_class}</td><td>{ece}</td>'
            f'<td class="pictures">{pictures}</td></tr>')


def data_url(pixels: Any) -> str:
    """uint8 [C, H, W] as a PNG in the page, small ones enlarged without smoothing."""
    channels = pixels.shape[0]
    image = Image.fromarray(pixels[0].numpy() if channels == 1 else pixels.permute(1, 2, 0).contiguous().numpy()).convert("RGB")
    image = image.resize((96, 96), Image.Resampling.NEAREST if image.width < 96 else Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body{{font:15px/1.45 system-ui,sans-serif;max-width:1500px;margin:2.5rem auto;padding:0 1.5rem;color:#1a1a1a}}
h1{{font-size:1.5rem;margin:0}}p{{color:#5f6368;margin:.4rem 0 1.6rem}}table{{border-collapse:collapse;width:100%}}
th,td{{text-align:right;padding:.7rem .7rem;border-bottom:1px solid #e4e7eb;vertical-align:middle;font-variant-numeric:tabular-nums}}
thead th{{font-weight:500;color:#5f6368;font-size:.8rem;vertical-align:bottom}}tbody th,th:first-child{{text-align:left}}
small{{display:block;color:#5f6368;font-weight:400}}
td.main,thead th:nth-child(4){{text-align:left;min-width:16rem}}td.main b{{font-size:1.15rem}}
.bar{{position:relative;height:10px;background:#eef1f4;border-radius:5px;margin-top:.35rem}}
.bar i{{position:absolute;inset:0 auto 0 0;background:#1668dc;border-radius:5px}}
.bar u{{position:absolute;top:3px;height:4px;background:#0a2a5e;opacity:.75;border-radius:2px}}
.bar s{{position:absolute;top:-3px;bottom:-3px;width:2px;background:#d1495b}}
td.pictures,thead th:last-child{{text-align:left}}td.pictures{{white-space:nowrap}}
figure{{display:inline-block;width:62px;margin:0 6px 0 0;vertical-align:top}}
figure img{{width:56px;height:56px;border-radius:4px;border:3px solid}}.right img{{border-color:#12903c}}.wrong img{{border-color:#d1495b}}
figcaption{{font-size:.66rem;line-height:1.15;white-space:normal;overflow-wrap:anywhere;text-align:center;color:#3c4043}}
footer{{color:#5f6368;font-size:.8rem;margin-top:1.5rem}}code{{background:#f1f3f4;padding:.15rem .35rem;border-radius:3px}}
</style>
<h1>{title}</h1><p>{subtitle}</p>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<footer><p>{foot} A red tick is chance; a green frame is a picture called right.</p><p><code>{command}</code></p></footer>
"""
