"""`practicum list`: what there is, one line each."""


from experiments.catalogue import FOLDERS, Arguments, entries


def main(arguments: list[str]) -> int:
    """Prints every experiment, data set, sweep and figure with the first line of its file."""
    parser = Arguments(prog="practicum list", description=__doc__)
    parser.parse_args(arguments)
    for kind in FOLDERS:
        found = entries(kind)
        if not found:
            continue
        width = max(len(entry.name) for entry in found)
        print(f"{kind}s")
        for entry in found:
            print(f"  {entry.name:{width}}  {entry.summary}")
    return 0
