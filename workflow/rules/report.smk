# The page that shows what came out.
rule report:
    input:
        missing_parents("results/report/{key}.html"),
    output:
        update("results/report/{key}.html"),
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
