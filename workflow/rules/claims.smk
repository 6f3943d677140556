# What the papers claim, tested on the table.
rule claims:
    input:
        missing_parents("results/claims/{key}.json"),
    output:
        update("results/claims/{key}.json"),
    log:
        "logs/claims/{key}.log",
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
