# The page that shows what came out, and its figures for `snakemake --report`.


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
