# What quantizing each linear of a model costs, and the mixes that are made by it or at random.
rule sensitivity:
    input:
        missing_parents("results/sensitivity/{label}/{key}.json"),
    output:
        update("results/sensitivity/{label}/{key}.json"),
    log:
        "logs/sensitivity/{label}/{key}.log",
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


rule mix:
    input:
        missing_parents("results/mix/{label}/{key}.json"),
    output:
        update("results/mix/{label}/{key}.json"),
    log:
        "logs/mix/{label}/{key}.log",
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
