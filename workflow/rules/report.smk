# The page that shows what came out, and its figures for `snakemake --report`.

# At the start of a line, `report` is a keyword.
from snakemake.io import report as shown

CAPTION = workflow.current_basedir.join("../report/figure.rst")


def figures(wildcards):
    """Return the page's figures where Snakemake runs no job; a run waits for none of them."""
    paths = [] if workflow.executor_plugin else RUN.figures()
    about = {"caption": CAPTION, "category": "Figures"}
    return [shown(path, **about, labels={"figure": Path(path).stem}) for path in paths]


rule report:
    input:
        missing_parents("results/report/{key}.html"),
    output:
        update(
            shown(
                "results/report/{key}.html",
                caption="../report/page.rst",
                category="The page",
                labels={"what": "all sections, with the explorer"},
            )
        ),
    log:
        "logs/report/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
